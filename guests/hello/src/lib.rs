//! Answers every request with a greeting.
//!
//! ```sh
//! netwasm run guests/hello.wasm --https 8443 \
//!     --cert certs/cert.pem --key certs/key.pem
//! curl --cacert certs/cert.pem https://localhost:8443/
//! ```
use netwasm_guest::http::{Method, Request, Response};

netwasm_guest::export!(http: hello);

async fn hello(request: Request<'_>) -> Response {
    match request.method() {
        // To HEAD the host sends only the length of the body.
        Method::Get | Method::Head => {
            Response::html("<html><body><h1>Hello HTTPS!</h1></body></html>")
        }
        _ => Response::new(405).header("allow", "GET, HEAD"),
    }
}
