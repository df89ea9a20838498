//! The output of wit-bindgen for `wit/`: the imports once, and the exports in
//! parts, so that a component exports no more than it handles.
#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated"
)]

wit_bindgen::generate!({
    path: "wit",
    inline: "
        package netwasm:guest-imports;
        world guest-imports {
            import netwasm:net/types@0.2.0;
            import netwasm:net/files@0.2.0;
            import netwasm:net/transports@0.2.0;
            import netwasm:net/datagrams@0.2.0;
            import netwasm:net/log@0.2.0;
            import netwasm:net/metrics@0.2.0;
            import netwasm:net/shared@0.2.0;
            import netwasm:net/connector@0.2.0;
            import netwasm:net/timers@0.2.0;
            import netwasm:net/resolver@0.2.0;
            import netwasm:net/http@0.2.0;
            import netwasm:net/websockets@0.2.0;
            import netwasm:net/websocket-client@0.2.0;
            import netwasm:net/topics@0.2.0;
            import netwasm:net/connection-topics@0.2.0;
            import netwasm:net/pools@0.2.0;
            import netwasm:net/datagram-connector@0.2.0;
        }
    ",
    world: "netwasm:guest-imports/guest-imports",
    generate_all,
});

/// The timer, the answers of the resolver, and the host's shutdown: what every
/// handler of connections or datagrams exports.
pub mod waiting {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package netwasm:guest-waiting;
            world guest-waiting {
                export netwasm:net/timer-handler@0.2.0;
                export netwasm:net/resolve-handler@0.2.0;
                export netwasm:net/lifecycle@0.2.0;
            }
        ",
        world: "netwasm:guest-waiting/guest-waiting",
        with: {
            "netwasm:net/types@0.2.0": crate::bindings::netwasm::net::types,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_waiting",
        default_bindings_module: "netwasm_guest::bindings::waiting",
        type_section_suffix: "waiting",
    });
}

pub mod tcp {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package netwasm:guest-tcp;
            world guest-tcp {
                export netwasm:net/tcp-handler@0.2.0;
                export netwasm:net/connect-handler@0.2.0;
            }
        ",
        world: "netwasm:guest-tcp/guest-tcp",
        with: {
            "netwasm:net/types@0.2.0": crate::bindings::netwasm::net::types,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_tcp",
        default_bindings_module: "netwasm_guest::bindings::tcp",
        type_section_suffix: "tcp",
    });
}

pub mod udp {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package netwasm:guest-udp;
            world guest-udp {
                export netwasm:net/udp-handler@0.2.0;
                export netwasm:net/datagram-connect-handler@0.2.0;
            }
        ",
        world: "netwasm:guest-udp/guest-udp",
        with: {
            "netwasm:net/types@0.2.0": crate::bindings::netwasm::net::types,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_udp",
        default_bindings_module: "netwasm_guest::bindings::udp",
        type_section_suffix: "udp",
    });
}

pub mod http {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package netwasm:guest-http;
            world guest-http {
                export netwasm:net/http-handler@0.2.0;
                export netwasm:net/response-handler@0.2.0;
            }
        ",
        world: "netwasm:guest-http/guest-http",
        with: {
            "netwasm:net/types@0.2.0": crate::bindings::netwasm::net::types,
            "netwasm:net/files@0.2.0": crate::bindings::netwasm::net::files,
            "netwasm:net/http@0.2.0": crate::bindings::netwasm::net::http,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_http",
        default_bindings_module: "netwasm_guest::bindings::http",
        type_section_suffix: "http",
    });
}

pub mod uploads {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package netwasm:guest-uploads;
            world guest-uploads {
                export netwasm:net/body-handler@0.2.0;
            }
        ",
        world: "netwasm:guest-uploads/guest-uploads",
        with: {
            "netwasm:net/types@0.2.0": crate::bindings::netwasm::net::types,
            "netwasm:net/files@0.2.0": crate::bindings::netwasm::net::files,
            "netwasm:net/http@0.2.0": crate::bindings::netwasm::net::http,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_uploads",
        default_bindings_module: "netwasm_guest::bindings::uploads",
        type_section_suffix: "uploads",
    });
}

pub mod verdicts {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package netwasm:guest-verdicts;
            world guest-verdicts {
                export netwasm:net/forward-handler@0.2.0;
            }
        ",
        world: "netwasm:guest-verdicts/guest-verdicts",
        with: {
            "netwasm:net/types@0.2.0": crate::bindings::netwasm::net::types,
            "netwasm:net/files@0.2.0": crate::bindings::netwasm::net::files,
            "netwasm:net/http@0.2.0": crate::bindings::netwasm::net::http,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_verdicts",
        default_bindings_module: "netwasm_guest::bindings::verdicts",
        type_section_suffix: "verdicts",
    });
}

pub mod websocket {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package netwasm:guest-websocket;
            world guest-websocket {
                export netwasm:net/websocket-handler@0.2.0;
                export netwasm:net/websocket-connect-handler@0.2.0;
            }
        ",
        world: "netwasm:guest-websocket/guest-websocket",
        with: {
            "netwasm:net/types@0.2.0": crate::bindings::netwasm::net::types,
            "netwasm:net/files@0.2.0": crate::bindings::netwasm::net::files,
            "netwasm:net/http@0.2.0": crate::bindings::netwasm::net::http,
            "netwasm:net/websockets@0.2.0": crate::bindings::netwasm::net::websockets,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_websocket",
        default_bindings_module: "netwasm_guest::bindings::websocket",
        type_section_suffix: "websocket",
    });
}
