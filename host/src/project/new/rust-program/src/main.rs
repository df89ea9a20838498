//! Listens where its argument says, and answers each line in capitals.

use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> Result<()> {
    let address = std::env::args().nth(1);
    let address = address.unwrap_or_else(|| "127.0.0.1:8888".into());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    for client in listener.incoming() {
        // A client that fails ends alone.
        if let Err(error) = client.and_then(|client| serve(&client)) {
            eprintln!("{error}");
        }
    }
    Ok(())
}

fn serve(mut client: &TcpStream) -> Result<()> {
    for line in BufReader::new(client).lines() {
        writeln!(client, "{}", answer(&line?))?;
    }
    Ok(())
}

fn answer(line: &str) -> String {
    line.to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_in_capitals() {
        assert_eq!(answer("hello"), "HELLO");
    }
}
