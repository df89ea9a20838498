//! Looks names up, all at once, and prints every address: `-- NAME...`
wit_bindgen::generate!({ path: "../../wit", world: "netwasm:net/stream-client", generate_all });

use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::future::join_all;
use netwasm::net::client;
use netwasm::net::types::IpAddress;
use wasip3::cli::environment;
use wasip3::exports::cli::run::Guest;

struct Resolve;
wasip3::cli::command::export!(Resolve);

impl Guest for Resolve {
    async fn run() -> Result<(), ()> {
        let names = environment::get_arguments().split_off(1);
        if names.is_empty() {
            eprintln!("usage: resolve NAME...");
            return Err(());
        }
        let questions = names.iter().map(|name| client::resolve(name.clone()));
        let mut failed = false;
        for (name, answer) in names.iter().zip(join_all(questions).await) {
            match answer {
                Ok(addresses) => addresses.iter().for_each(|address| print(name, address)),
                Err(error) => {
                    eprintln!("{name}: {}", error.text);
                    failed = true;
                }
            }
        }
        if failed { Err(()) } else { Ok(()) }
    }
}

fn print(name: &str, address: &IpAddress) {
    match *address {
        IpAddress::Ipv4(octets) => {
            let address = Ipv4Addr::from(<[u8; 4]>::from(octets));
            println!("{name} -> {address} (IPv4)");
        }
        IpAddress::Ipv6(segments) => {
            let address = Ipv6Addr::from(<[u16; 8]>::from(segments));
            println!("{name} -> {address} (IPv6)");
        }
    }
}
