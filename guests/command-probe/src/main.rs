//! A program that does what its arguments say, good or bad, with nothing but
//! the standard library: on `wasm32-wasip2` that is WASI 0.2.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs, hint, process, thread};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The kind tells what the standard library made of WASI's error.
            eprintln!("{:?}: {error}", error.kind());
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<()> {
    match *words {
        ["arguments", ref rest @ ..] => rest.iter().for_each(|word| println!("{word}")),
        ["variable", name] => println!("{}", env::var(name).unwrap_or_default()),
        ["copy"] => {
            io::copy(&mut io::stdin(), &mut io::stdout())?;
        }
        ["exit", code] => process::exit(code.parse().unwrap_or(255)),
        ["panic"] => panic!("as was asked for"),
        ["spin"] => {
            println!("spin");
            loop {
                hint::spin_loop();
            }
        }
        ["sleep", milliseconds] => {
            println!("sleep");
            let milliseconds = milliseconds.parse().unwrap_or(u64::MAX);
            thread::sleep(Duration::from_millis(milliseconds));
        }
        ["allocate", mebibytes] => {
            let size = mebibytes.parse::<usize>().unwrap_or(0) << 20;
            println!("{}", hint::black_box(vec![1_u8; size]).len());
        }
        ["read", path] => print!("{}", fs::read_to_string(path)?),
        ["write", path, text] => fs::write(path, text)?,
        ["resolve", host] => {
            for address in (host, 0).to_socket_addrs()? {
                println!("{}", address.ip());
            }
        }
        ["connect", address, message] => {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(message.as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply)?;
            println!("{reply}");
        }
        ["listen", address] => {
            let listener = TcpListener::bind(address)?;
            println!("listening on {}", listener.local_addr()?);
            for stream in listener.incoming() {
                let stream = stream?;
                io::copy(&mut &stream, &mut &stream)?;
            }
        }
        ["datagram", from, to, message] => {
            let socket = UdpSocket::bind(from)?;
            socket.send_to(message.as_bytes(), to)?;
            let mut reply = [0; 1500];
            let (count, _) = socket.recv_from(&mut reply)?;
            println!("{}", String::from_utf8_lossy(&reply[..count]));
        }
        // Sends so many bytes, and says what came back.
        ["long-datagram", from, to, size] => {
            let size = size.parse().unwrap_or(0);
            let bytes: Vec<u8> = (0..size).map(|index: u32| (index % 251) as u8).collect();
            let socket = UdpSocket::bind(from)?;
            socket.send_to(&bytes, to)?;
            let mut reply = vec![0; 1 << 16];
            let (count, _) = socket.recv_from(&mut reply)?;
            let equal = reply[..count] == bytes;
            println!(
                "{count} bytes, {}",
                if equal { "equal" } else { "not equal" }
            );
        }
        // Sends something, and waits for an answer.
        ["connected-datagram", from, to] => {
            let socket = UdpSocket::bind(from)?;
            socket.connect(to)?;
            socket.send(b"x")?;
            socket.recv(&mut [0; 16])?;
        }
        _ => return Err(io::Error::other("no such thing to do")),
    }
    Ok(())
}
