//! Functions of the engine, and of sockets, that do in one call what several do.

use super::{SERVER, says};

#[test]
fn one_call_feeds_and_reads() {
    says(
        &[],
        &[
            ("c = tls client localhost ca=ca.pem", "ok"),
            ("s = tls server", "ok"),
            ("tls encrypt s early c", "0"),
            (&format!("tls shake c s {SERVER}"), "done"),
            // The tickets are no data.
            ("tls exchange s c 100", "\"\", no more"),
            ("tls write c hello", "5"),
            ("tls exchange c s 3", "\"hel\", more"),
            ("tls exchange c s 100", "\"lo\", no more"),
            ("tls exchange c s 100", "\"\", no more"),
            ("tls encrypt c again s", "5"),
            ("tls read s 100", "\"again\""),
            ("tls encrypt c bye s", "3"),
            ("tls close c", "ok"),
            ("tls exchange c s 100", "\"bye\", more"),
            ("tls read s 100", "end"),
            ("tls exchange c s 100", "\"\", more"),
        ],
    );
}

#[test]
fn one_call_that_feeds_and_reads_leaves_failures_to_be_told() {
    says(
        &[],
        &[
            ("c = tls client localhost ca=ca.pem", "ok"),
            ("s = tls server", "ok"),
            (&format!("tls shake c s {SERVER}"), "done"),
            ("tls encrypt c hello s", "5"),
            ("tls feed s broken-record-broken-record", "ok"),
            ("tls exchange c s 3", "\"hel\", more"),
            ("tls exchange c s 100", "\"lo\", more"),
            ("tls exchange c s 100", "\"\", more"),
            ("tls read s 100", "protocol ("),
            // It says nothing but its alert.
            ("tls encrypt s late c", "0"),
            ("tls write s late", "protocol ("),
            ("tls read c 100", "alert "),
            ("d = tls client localhost ca=ca.pem", "ok"),
            ("t = tls server", "ok"),
            (&format!("tls shake d t {SERVER}"), "done"),
            ("tls encrypt d hello t", "5"),
            ("tls feed-end t", "ok"),
            ("tls exchange d t 100", "\"hello\", more"),
            ("tls read t 100", "truncated"),
        ],
    );
}

#[test]
fn one_call_moves_a_sessions_bytes_over_a_socket() {
    says(
        &[],
        &[
            ("a b = pair", "1000000"),
            ("c = tls client localhost ca=ca.pem", "ok"),
            ("s = tls server", "ok"),
            (&format!("tls shake c s {SERVER}"), "done"),
            ("tls read c 100", "want-read"),
            ("tls send-tls c a hello", "5"),
            ("tls receive-tls s b 4096", "\"hello\", no more"),
            ("tls receive-tls s b 4096", "again"),
            ("tls send-tls s b question", "8"),
            // A part of a record is no data.
            ("tls receive-tls c a 7", "\"\", no more"),
            ("tls receive-tls c a 4096", "\"question\", no more"),
            // No room for a record of 5 + 4 + 1 + 16 bytes.
            ("flood a 10000 65536", ""),
            ("tls send-tls c a late", "4, 26 bytes left"),
            ("e f = pair", "1000002"),
            ("close e", "ok"),
            ("tls receive-tls s f 100", "end"),
            ("tls send-tls s f gone", "broken-pipe"),
            ("d = open inet datagram", ""),
            ("tls receive-tls s d 100", "not-supported"),
            ("tls send-tls s d text", "not-supported"),
        ],
    );
}
