//! Does what the first line that it receives says: for the test-suite.
wit_bindgen::generate!({ path: "../../wit", world: "netwasm:net/awaiting", generate_all });

mod client;

use std::hint;

use exports::netwasm::net::stream_handler::Guest;
use netwasm::net::log::{Level, log};
use netwasm::net::streams::Connection;
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
use wit_bindgen::{StreamReader, StreamWriter};

struct Probe;
export!(Probe);

impl Guest for Probe {
    async fn handle(connection: Connection) {
        let (mut reader, received) = connection.receive();
        let line = line(&mut reader).await;
        if let Some(path) = line.strip_prefix("file ") {
            return send_file(&connection, path).await;
        }
        if let Some(to) = line.strip_prefix("relay ") {
            return client::relay(&connection, reader, to).await;
        }
        let (mut writer, data) = wit_stream::new();
        let sent = connection.send(data);
        match &*line {
            "info" => {
                let info = connection.info();
                say(&mut writer, &format!("{:?} {:?}", info.peer, info.tls)).await;
            }
            "panic" => panic!("as was asked for"),
            "spin" => loop {
                hint::spin_loop();
            },
            "grow" => say(&mut writer, &format!("{}", vec![1_u8; 256 << 20].len())).await,
            "again" => {
                let (mut nothing, again) = connection.receive();
                let (result, _) = nothing.read(Vec::with_capacity(1)).await;
                say(&mut writer, &format!("{result:?} {:?}", again.await)).await;
                let (mut more, data) = wit_stream::new();
                let again = connection.send(data);
                let rest = more.write_all(vec![0]).await;
                say(&mut writer, &format!("{} {:?}", rest.len(), again.await)).await;
            }
            // What comes is not read, and the connection stands.
            "hold" => {
                say(&mut writer, "ok").await;
                let mut rest = reader.read(Vec::with_capacity(1)).await.1;
                while !rest.is_empty() {
                    rest.clear();
                    rest = reader.read(rest).await.1;
                }
            }
            // Both directions are told how they ended.
            "outcome" => {
                say(&mut writer, "ok").await;
                while reader.next().await.is_some() {}
                let received = received.await;
                drop(writer);
                let message = format!("received {received:?}, sent {:?}", sent.await);
                log(Level::Info, &message);
                return;
            }
            // A task goes on after the return.
            "later" => {
                wit_bindgen::spawn_local(async move {
                    // It waits for a byte first.
                    reader.next().await;
                    say(&mut writer, "later").await;
                });
                return;
            }
            "client" => client::obey(&mut reader, &mut writer).await,
            _ => say(&mut writer, "what?").await,
        }
        drop(writer);
        let _ = sent.await;
    }
}

/// Passes a file of the first directory on, unread.
async fn send_file(connection: &Connection, path: &str) {
    let directories = preopens::get_directories();
    let Some((directory, _)) = directories.first() else {
        return log(Level::Error, "there is no directory");
    };
    let (open, access) = (OpenFlags::empty(), DescriptorFlags::READ);
    let file = directory.open_at(PathFlags::empty(), path.to_owned(), open, access);
    match file.await {
        Ok(file) => {
            let (content, read) = file.read_via_stream(0);
            let sent = connection.send(content).await;
            let message = format!("read {:?}, sent {sent:?}", read.await);
            log(Level::Info, &message);
        }
        Err(error) => log(Level::Error, &format!("{error:?}")),
    }
}

async fn line(reader: &mut StreamReader<u8>) -> String {
    let mut line = Vec::new();
    loop {
        match reader.next().await {
            None | Some(b'\n') => return String::from_utf8_lossy(&line).into_owned(),
            Some(byte) => line.push(byte),
        }
    }
}

async fn say(writer: &mut StreamWriter<u8>, text: &str) {
    writer.write_all(format!("{text}\n").into_bytes()).await;
}
