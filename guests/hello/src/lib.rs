//! Answers every request with a greeting.
//!
//! ```sh
//! netwasm run guests/hello.wasm --https 8443 \
//!     --cert certs/cert.pem --key certs/key.pem
//! curl --cacert certs/cert.pem https://localhost:8443/
//! ```
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:hello;
        world hello {
            include netwasm:net/http-server@0.2.0;
        }
    ",
    world: "netwasm:hello/hello",
    generate_all,
});

use exports::netwasm::net::http_handler;
use netwasm::net::http::{Answer, Body, Method, Request, Response};

const PAGE: &str = "<html><body><h1>Hello HTTPS!</h1></body></html>";

struct Hello;
export!(Hello);

impl http_handler::Guest for Hello {
    fn handle(method: Method, _target: String, _request: &Request) -> Answer {
        let (status, name, value, body) = match method {
            // To HEAD the host sends only the length of the body.
            Method::Get | Method::Head => {
                let page = Body::Bytes(PAGE.into());
                (200, "content-type", "text/html; charset=utf-8", page)
            }
            _ => (405, "allow", "GET, HEAD", Body::Empty),
        };
        Answer::Respond(Response {
            status,
            headers: vec![(name.into(), value.into())],
            body,
            trailers: Vec::new(),
        })
    }
}
