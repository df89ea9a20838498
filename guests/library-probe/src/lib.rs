//! Does what the test-suite tells it, by the parts of the library that no other
//! guest uses. It is no example: the other guests are.
//!
//! A client sends commands, one a line, and gets an answer for each:
//!
//! | command | answer |
//! | --- | --- |
//! | `pool ADDRESS TEXT` | sends the text over a connection of a pool, twice; what came back, and how many connections were opened and reused |
//! | `udp ADDRESS TEXT` | what came back of a connected socket, and its peer |
//! | `bound ADDRESS TEXT` | what came back of a bound socket, and from whom |
//! | `options` | `ok`, after setting some |
//! | `panic` | none, since it traps after a pause |
//! | `shared WORD` | the number of callers, and all their words, of which each is added to a value |
//!
//! By HTTP, `POST /late/{name}` answers after 20 ms with what it then reads of
//! the request, and `POST /types` with a request's parts as the crate `http` has
//! them. `/hint` sends early hints before it waits, and after. `/copy` streams
//! the body back, `/begin` reads the first piece of it, and `/whole` counts a
//! body that it takes whole.
use std::net::SocketAddr;
use std::time::Duration;

use netwasm_guest::http::{Body, BodyWriter, Request, Response, Router, Upload};
use netwasm_guest::{
    Connect, Connection, Error, KeepAlive, Result, SocketOption, UdpSocket, shared, sleep, timeout,
};

netwasm_guest::export!(tcp: serve, datagrams, uploads: site);

const PATIENCE: Duration = Duration::from_secs(20);

async fn serve(mut conn: Connection) -> Result<()> {
    while let Some(line) = conn.read_line().await? {
        let answer = match timeout(PATIENCE, execute(&conn, &line)).await? {
            Ok(answer) => answer,
            Err(error) => format!("error: {error}"),
        };
        conn.write_all(answer + "\n").await?;
    }
    Ok(())
}

async fn execute(conn: &Connection, line: &str) -> Result<String> {
    let words: Vec<_> = line.splitn(3, ' ').collect();
    match *words {
        ["pool", to, text] => pool(to, text).await,
        ["udp", to, text] => {
            let mut socket = UdpSocket::connect(to).await?;
            socket.send(text)?;
            let answer = socket.recv().await?.unwrap_or_default();
            let peer = socket.peer().map(|peer| peer.to_string());
            Ok(words_of(&answer) + " " + &peer.unwrap_or_default())
        }
        ["bound", to, text] => {
            let to: SocketAddr = to.parse().map_err(|_| Error::other("no address"))?;
            let mut socket = UdpSocket::bind(([127, 0, 0, 1], 0).into())?;
            socket.set_option(SocketOption::HopLimit(9))?;
            socket.send_to(text, to)?;
            let (answer, from) = socket.recv_from().await?.unwrap_or((Vec::new(), to));
            Ok(format!("{} {from}", words_of(&answer)))
        }
        ["options"] => {
            conn.set_nodelay(false)?;
            conn.set_keepalive(Some(Duration::from_secs(60)))?;
            conn.set_option(SocketOption::KeepAlive(Some(KeepAlive {
                interval: Some(Duration::from_secs(5)),
                count: Some(3),
                ..KeepAlive::after(Duration::from_secs(30))
            })))?;
            conn.set_option(SocketOption::ReceiveBufferSize(65_536))?;
            Ok("ok".to_owned())
        }
        ["shared", word] => {
            let all = shared::update("words", PATIENCE, |known| {
                Some([known.unwrap_or_default(), word.as_bytes()].concat())
            })?;
            // It lasts, and is no version of an earlier one.
            let kept = shared::touch("words", PATIENCE) && !shared::remove_version("words", 0);
            let callers = shared::add("callers", 1, PATIENCE)?;
            let number = shared::get("callers").and_then(|it| it.number());
            let is_so = kept && number >= Some(callers) && shared::take("callers", 1.0, 9);
            let all = words_of(&all.unwrap_or_default());
            let set = shared::set(word, "", PATIENCE).is_ok() && shared::remove(word);
            Ok(format!("{callers} {all} {}", is_so && set))
        }
        ["panic"] => {
            sleep(Duration::from_millis(1)).await;
            panic!("as it was told");
        }
        _ => Err(Error::other("no such command")),
    }
}

async fn pool(to: &str, text: &str) -> Result<String> {
    let pool = Connect::to(to).pool(2).open()?;
    let mut answers = String::new();
    for _ in 0..2 {
        let mut conn = pool.get().await?;
        conn.write_all(text).await?;
        answers += &words_of(&conn.read_exact(text.len()).await?);
        answers.push(' ');
        conn.put();
    }
    let counts = pool.counts();
    Ok(format!("{answers}{} {}", counts.opened, counts.reused))
}

fn words_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn site() -> Router {
    Router::new()
        .post("/late/{name}", late)
        .post("/types", types)
        .get("/hint", hint)
        .post("/copy", copy)
        .post("/begin", begin)
        .post("/whole", async |Body(body): Body| body.len().to_string())
}

async fn hint(request: Request<'_>) -> Result<String> {
    request.inform(103, [("link", "a.css")])?;
    sleep(Duration::from_millis(20)).await;
    request.inform(103, [("link", "b.css")])?;
    sleep(Duration::from_millis(20)).await;
    let wrong = request.inform(200, [("link", "c.css")]);
    Ok(wrong
        .err()
        .map_or_else(String::new, |error| error.to_string()))
}

async fn copy(mut upload: Upload) -> Response {
    Response::stream(
        "application/octet-stream",
        async move |mut body: BodyWriter| {
            while let Some(piece) = upload.read().await? {
                body.write(piece).await;
            }
            Ok::<_, Error>(())
        },
    )
}

async fn begin(mut upload: Upload) -> Result<String> {
    let piece = upload.read().await?;
    Ok(words_of(&piece.unwrap_or_default()))
}

async fn late(request: Request<'_>) -> String {
    sleep(Duration::from_millis(20)).await;
    format!(
        "{} {} {} {} {} {}",
        request.method(),
        request.target(),
        request.parameter("name").unwrap_or_default(),
        request.header("x-a").unwrap_or_default(),
        request.authority().unwrap_or_default(),
        words_of(&request.body()),
    )
}

async fn types(request: http::Request<Vec<u8>>) -> http::Response<Vec<u8>> {
    let (head, body) = request.into_parts();
    let mut response = http::Response::new(body);
    *response.status_mut() = http::StatusCode::ACCEPTED;
    if let Some(value) = head.headers.get("x-a") {
        response.headers_mut().insert("x-b", value.clone());
    }
    response
}
