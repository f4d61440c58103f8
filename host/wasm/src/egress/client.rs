//! The one pooled client: HTTP/1.1 and HTTP/2, TLS by rustls with Mozilla's roots, shared by all guests.
//!
//! # Where a connection goes
//! A name is resolved once for a connection. Every address that it has is checked, and the connection goes to one of just
//! these: nothing asks for the name again, so an answer that changes in between changes nothing. One address that is
//! closed to the component ends it all, because who mixes such an answer means no good.
//!
//! # Who shares it
//! A connection was checked for who opened it. So components share connections if they name the same closed addresses,
//! which for most of them is none: whoever names more has a pool besides, and nobody else gets into it.
//!
//! # Timeouts
//! Those of the guest's request options, each on its own: until there is a connection, from then until the head, and
//! between any two frames of the body. A call that waited for its turn has all of them yet.

use super::allow::{Destination, Named};
use super::body::Timed;
use futures::future::{BoxFuture, Either, select};
use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Response, Uri, Version};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::client::legacy::{Client as Pool, Error as PoolError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io, vec};
use tokio::net::TcpStream;
use tower_service::Service;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// How long a connection may take where the guest says nothing.
const CONNECT: Duration = Duration::from_secs(30);
/// How long the head, or the next frame of the body, may take: above what a request may last by default.
const READ: Duration = Duration::from_secs(600);
/// How long an idle connection is kept: shorter than most servers keep theirs.
const IDLE: Duration = Duration::from_secs(30);
/// Idle connections kept to one host: as many as components of a busy machine use at once.
const MAX_IDLE: usize = 256;

/// How much of a response's body may be on its way unread (HTTP/2), and of all that share a connection: as much as 256 guests
/// that do not read theirs would hold. Else three could stall everybody else's calls to that host.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// An HTTP/2 connection that is silent this long is asked whether it is still there, and given as long to answer: every call
/// to its host would wait on one that is not.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// The clients of one process, one for each set of closed addresses that components name.
pub(crate) struct Clients {
    tls: ClientConfig,
    made: Mutex<HashMap<Named, Client>>,
}

impl Clients {
    /// # Errors
    /// TLS does not start.
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        Self::trusting(RootCertStore { roots: webpki_roots() })
    }

    fn trusting(roots: RootCertStore) -> Result<Self, rustls::Error> {
        // Named, because a program may have several providers and no default.
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls, made: Mutex::default() })
    }

    /// The client of all that name these addresses.
    pub(crate) fn naming(&self, named: Named) -> Client {
        let mut made = self.made.lock();
        made.entry(named)
            .or_insert_with_key(|named| Client::new(self.tls.clone(), Connector::new(named.clone())))
            .clone()
    }
}

/// A pool of connections. Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct Client(Pool<HttpsConnector<Connector>, WasiBody>);

impl Client {
    fn new(tls: ClientConfig, connector: Connector) -> Self {
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions();
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_INTERVAL)
            .build(https.wrap_connector(connector));
        Self(pool)
    }

    /// Sends a request to where it goes, and answers once the head of the response is there.
    ///
    /// # Errors
    /// As a guest is told them.
    ///
    /// # Cancel safety
    /// The request is given up; a connection that it has is closed.
    pub(super) async fn send(
        &self,
        request: Request<WasiBody>,
        to: &Destination,
        options: Option<RequestOptions>,
    ) -> Result<Response<Timed>, Error> {
        let options = options.unwrap_or_default();
        let mut request = addressed(request, to)?;
        let mut connection = capture_connection(&mut request);
        let mut response = self.0.request(request);
        let early = {
            let connected = pin!(connection.wait_for_connection_metadata());
            let connecting = pin!(tokio::time::timeout(options.connect_timeout.unwrap_or(CONNECT), connected));
            match select(&mut response, connecting).await {
                Either::Left((response, _)) => Some(response),
                Either::Right((Ok(_), _)) => None,
                Either::Right((Err(_elapsed), _)) => return Err(Error::ConnectionTimeout),
            }
        };
        let response = match early {
            Some(response) => response,
            None => tokio::time::timeout(options.first_byte_timeout.unwrap_or(READ), response)
                .await
                .map_err(|_elapsed| Error::ConnectionReadTimeout)?,
        };
        let between_bytes = options.between_bytes_timeout.unwrap_or(READ);
        Ok(response.map_err(|error| told(&error))?.map(|body| Timed::new(body, between_bytes)))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn webpki_roots() -> Vec<rustls::pki_types::TrustAnchor<'static>> {
    webpki_roots::TLS_SERVER_ROOTS.to_vec()
}

/// The request as the pool wants it: an absolute URI in its one spelling, from which it makes `Host` or `:authority`.
fn addressed(mut request: Request<WasiBody>, to: &Destination) -> Result<Request<WasiBody>, Error> {
    // A tunnel would lead past every check.
    if request.method() == Method::CONNECT {
        return Err(Error::HttpRequestMethodInvalid);
    }
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.authority = Some(Authority::try_from(to.authority()).map_err(|_| Error::HttpRequestUriInvalid)?);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Error::HttpRequestUriInvalid)?;
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().remove(HOST);
    Ok(request)
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("the address {0} is closed to this component")]
    Closed(SocketAddr),
    #[error("the name is not known: {0}")]
    Name(io::Error),
    #[error("the host is no host")]
    Host,
    #[error(transparent)]
    Tcp(#[from] io::Error),
}

type Resolve = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Opens connections to addresses that are checked.
#[derive(Clone)]
struct Connector {
    named: Arc<Named>,
    resolve: Arc<Resolve>,
}

impl Connector {
    fn new(named: Named) -> Self {
        let resolve = |host: String, port| -> BoxFuture<'static, _> {
            Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
        };
        Self { named: Arc::new(named), resolve: Arc::new(resolve) }
    }

    /// Every address of a destination, if all of them may be reached.
    async fn addresses(&self, to: &Destination) -> Result<Vec<SocketAddr>, ConnectError> {
        let addresses = match &to.host {
            super::address::Host::Address(address) => vec![SocketAddr::new(*address, to.port)],
            super::address::Host::Name(name) => {
                (self.resolve)(name.clone(), to.port).await.map_err(ConnectError::Name)?
            }
        };
        match addresses.iter().find(|address| !self.named.admits(address.ip(), to.port)) {
            Some(closed) => Err(ConnectError::Closed(*closed)),
            None => Ok(addresses),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let me = self.clone();
        Box::pin(async move {
            let to = Destination::of(&uri).map_err(|_| ConnectError::Host)?;
            // An address is taken as it is written, a name becomes what was checked.
            let mut tcp = HttpConnector::new_with_resolver(Checked(me.addresses(&to).await?));
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            Ok(tcp.call(uri).await?)
        })
    }
}

/// Answers the addresses that are checked, whatever the name.
#[derive(Clone)]
struct Checked(Vec<SocketAddr>);

impl Service<Name> for Checked {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        std::future::ready(Ok(self.0.clone().into_iter()))
    }
}

/// What a guest is told of a call that has no response: the innermost cause that there is a word for.
fn told(error: &PoolError) -> Error {
    tracing::debug!(target: "weir_wasm", "outbound call failed: {:?}", error);
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut found = if error.is_connect() { Error::DestinationUnavailable } else { Error::HttpProtocolError };
    while let Some(error) = cause {
        found = word(error).unwrap_or(found);
        // Of an I/O error that carries another, the source is that one's source.
        cause = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    found
}

fn word(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    if let Some(error) = error.downcast_ref::<ConnectError>() {
        return match error {
            ConnectError::Closed(_) => Some(Error::DestinationIpProhibited),
            ConnectError::Name(_) => Some(Error::DnsError { rcode: None, info_code: None }),
            ConnectError::Host => Some(Error::HttpRequestUriInvalid),
            ConnectError::Tcp(_) => None,
        };
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(match error {
            rustls::Error::InvalidCertificate(_) => Error::TlsCertificateError,
            _ => Error::TlsProtocolError,
        });
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return if error.is_incomplete_message() { Some(Error::HttpResponseIncomplete) } else { None };
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::ConnectionRefused => Some(Error::ConnectionRefused),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Some(Error::ConnectionTerminated),
        io::ErrorKind::TimedOut => Some(Error::ConnectionTimeout),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some(Error::DestinationIpUnroutable),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
