//! Against a server of this process, under names that only the test knows.

use super::*;
use crate::egress::Outbound;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::server::conn::auto;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

const CA: &[u8] = include_bytes!("../../../testdata/ca.der");
const LEAF: &[u8] = include_bytes!("../../../testdata/leaf.der");
const LEAF_KEY: &[u8] = include_bytes!("../../../testdata/leaf.key.der");

/// `/silent` has no head, `/stuck` no end.
async fn answer(request: Request<Incoming>) -> Result<Response<WasiBody>, Infallible> {
    let body = match request.uri().path() {
        "/silent" => std::future::pending().await,
        "/stuck" => {
            let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]);
            StreamBody::new(futures::StreamExt::chain(first, futures::stream::pending())).boxed_unsync()
        }
        _ => http_body_util::Full::new(Bytes::from_static(b"whole")).map_err(|never| match never {}).boxed_unsync(),
    };
    Ok(Response::new(body))
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

/// Starts a server, and answers its address and how many connections it has had.
async fn upstream(tls: Option<TlsAcceptor>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => serve(stream).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream).await;
                        }
                    }
                }
            });
        }
    });
    (address, connections)
}

/// A client of whoever names these, for whom every name has these addresses; and how often it has asked for them.
fn client(clients: &Clients, rules: &[&str], addresses: &[SocketAddr]) -> (Client, Arc<AtomicUsize>) {
    let named = Outbound::new(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>()).unwrap().named();
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, addresses) = (asked.clone(), addresses.to_vec());
    let resolve = move |_, _| -> BoxFuture<'static, _> {
        count.fetch_add(1, Ordering::SeqCst);
        let addresses = addresses.clone();
        Box::pin(async move { if addresses.is_empty() { std::future::pending().await } else { Ok(addresses) } })
    };
    (Client::new(clients.tls.clone(), Connector { named: Arc::new(named), resolve: Arc::new(resolve) }), asked)
}

async fn get(client: &Client, uri: &str, options: RequestOptions) -> Result<(Version, Bytes), Error> {
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::builder().uri(uri).body(body).unwrap();
    let to = Destination::of(request.uri())?;
    let response = client.send(request, &to, Some(options)).await?;
    let version = response.version();
    Ok((version, response.into_body().collect().await?.to_bytes()))
}

#[tokio::test]
async fn a_name_is_asked_for_once_a_connection() {
    let (address, connections) = upstream(None).await;
    let (client, asked) = client(&Clients::new().unwrap(), &["localhost"], &[address]);
    let uri = format!("http://a.test:{}/", address.port());
    for _ in 0..3 {
        let (version, body) = get(&client, &uri, RequestOptions::default()).await.unwrap();
        assert_eq!((version, &body[..]), (Version::HTTP_11, &b"whole"[..]));
    }
    // One that turned out not to be needed may be on its way yet.
    let equal = async {
        while asked.load(Ordering::SeqCst) != connections.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), equal).await.is_ok(), "once each");
}

#[tokio::test]
async fn one_closed_address_ends_it_all() {
    let (address, connections) = upstream(None).await;
    let open: SocketAddr = "8.8.8.8:80".parse().unwrap();
    let clients = Clients::new().unwrap();
    for (rules, addresses) in [
        (&["a.test"][..], &[address][..]),
        (&["*.test"], &[open, address]),
        (&["localhost:1"], &[address]),
        (&["10.0.0.0/8"], &[address]),
        (&["localhost"], &[address, "169.254.169.254:80".parse().unwrap()]),
        (&["127.0.0.1"], &[address, "[64:ff9b::7f00:1]:80".parse().unwrap()]),
    ] {
        let (client, _) = client(&clients, rules, addresses);
        let refused = get(&client, &format!("http://a.test:{}/", address.port()), RequestOptions::default()).await;
        assert!(matches!(refused, Err(Error::DestinationIpProhibited)), "{rules:?} {addresses:?}: {refused:?}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn tls_agrees_on_http_2_and_trusts_nobody_else() {
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(LEAF)], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(LEAF_KEY)));
    let mut tls = tls.unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (address, connections) = upstream(Some(TlsAcceptor::from(Arc::new(tls)))).await;
    let uri = format!("https://tls.test:{}/", address.port());

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(CA)).unwrap();
    let (trusting, _) = client(&Clients::trusting(roots.clone()).unwrap(), &["localhost"], &[address]);
    for _ in 0..5 {
        let (version, body) = get(&trusting, &uri, RequestOptions::default()).await.unwrap();
        assert_eq!((version, &body[..]), (Version::HTTP_2, &b"whole"[..]));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1, "all over one connection");

    let other = uri.replace("tls.test", "other.test");
    let refused = get(&trusting, &other, RequestOptions::default()).await;
    assert!(matches!(refused, Err(Error::TlsCertificateError)), "another name: {refused:?}");
    let (usual, _) = client(&Clients::new().unwrap(), &["localhost"], &[address]);
    let refused = get(&usual, &uri, RequestOptions::default()).await;
    assert!(matches!(refused, Err(Error::TlsCertificateError)), "another authority: {refused:?}");
}

#[tokio::test]
async fn each_timeout_has_its_own_error() {
    let (address, _) = upstream(None).await;
    let clients = Clients::new().unwrap();
    let short = Some(Duration::from_millis(20));
    let (reached, _) = client(&clients, &["localhost"], &[address]);
    let (unreached, _) = client(&clients, &["localhost"], &[]);
    let uri = |path: &str| format!("http://a.test:{}{path}", address.port());

    let connect = RequestOptions { connect_timeout: short, ..RequestOptions::default() };
    let late = get(&unreached, &uri("/"), connect).await;
    assert!(matches!(late, Err(Error::ConnectionTimeout)), "{late:?}");
    let first_byte = RequestOptions { first_byte_timeout: short, ..RequestOptions::default() };
    let late = get(&reached, &uri("/silent"), first_byte).await;
    assert!(matches!(late, Err(Error::ConnectionReadTimeout)), "{late:?}");
    let between_bytes = RequestOptions { between_bytes_timeout: short, ..RequestOptions::default() };
    let late = get(&reached, &uri("/stuck"), between_bytes).await;
    assert!(matches!(late, Err(Error::ConnectionReadTimeout)), "{late:?}");
}

#[tokio::test]
async fn nobody_there_and_no_tunnel() {
    let nobody = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (client, _) = client(&Clients::new().unwrap(), &["localhost"], &[nobody]);
    let uri = format!("http://a.test:{}/", nobody.port());
    let refused = get(&client, &uri, RequestOptions::default()).await;
    assert!(matches!(refused, Err(Error::ConnectionRefused)), "{refused:?}");

    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let tunnel = Request::builder().method(Method::CONNECT).uri(&uri).body(body).unwrap();
    let to = Destination::of(tunnel.uri()).unwrap();
    assert!(matches!(client.send(tunnel, &to, None).await.err(), Some(Error::HttpRequestMethodInvalid)));
}
