// SPDX-License-Identifier: Apache-2.0
//! A server to be observed: PORT LOG UPSTREAM [CERTIFICATE KEY]. hyper on tokio's threads; /call/... asks the upstream on pooled connections.
//! With a certificate it serves TLS, by rustls.
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::{connect::HttpConnector, Client};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer};
use tokio_rustls::{rustls::ServerConfig, TlsAcceptor};

struct Shared {
    log: Mutex<File>,
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

async fn ask(shared: &Shared, path: &str) -> (u16, Bytes) {
    let answer = shared.client.get(format!("{}/wait{}", shared.upstream, path).parse().unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.into_body().collect().await.unwrap().to_bytes())
}

async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let begun = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    let words: Vec<&str> = path.split('/').collect();
    let (status, body) = match words[1] {
        "size" => (200, Bytes::from(vec![b'h'; words[2].parse().unwrap()])),
        "status" => (words[2].parse().unwrap(), Bytes::from("status")),
        "echo" => (200, asked.clone()),
        "call" => ask(&shared, &path[5..]).await,
        _ => (404, Bytes::from("none")),
    };
    writeln!(
        shared.log.lock().unwrap(),
        "{{\"method\":\"{method}\",\"path\":\"{path}\",\"status\":{status},\"asked\":{},\"body\":{},\"seconds\":{:.9}}}",
        asked.len(),
        body.len(),
        begun.elapsed().as_secs_f64()
    )
    .unwrap();
    Ok(Response::builder().status(status).body(Full::new(body)).unwrap())
}

async fn converse(shared: Arc<Shared>, io: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request| serve(shared.clone(), request));
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service).await;
}

fn acceptor(certificate: &str, key: &str) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().collect::<Result<_, _>>().unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap());
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let log = File::options().append(true).create(true).open(&args[2]).unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let shared = Arc::new(Shared { log: Mutex::new(log), upstream: args[3].clone(), client });
    let tls = args.get(4).map(|certificate| acceptor(certificate, &args[5]));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", args[1].parse().unwrap())).await.unwrap();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (shared, tls) = (shared.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => converse(shared, socket).await,
                Some(tls) => {
                    if let Ok(io) = tls.accept(socket).await {
                        converse(shared, io).await
                    }
                }
            }
        });
    }
}
