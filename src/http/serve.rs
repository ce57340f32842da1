//! The thread that serves HTTP: its connections, their limits, and its stop.

use super::authenticate::{Who, admit};
use super::call::Shared;
use super::guard::{self, Host, Origin};
use super::limits::{HEAD_BYTES_MAX, Limits, READER_THREADS, STOP_MAX};
use super::metrics::{self, Metrics, Sources};
use super::problem::{self, Problem};
use super::rest::Rest;
use super::routes::{self, State};
use super::ui::{self, Ui, Visible};
use super::unread::close_after_unread;
use crate::coordinate::storage::Storage;
use crate::jobserver::Submitter;
use crate::server::{Admission, BoundSocket, Network, Stopper};
use crate::tls::{FIRST_BYTE, HANDSHAKE_MAX, TlsServer};
use axum::Router;
use axum::handler::Handler;
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum_server::accept::Accept;
use axum_server::{Address, Control, Handle};
use rustls::ServerConfig;
use std::future::{Ready, ready};
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower_http::add_extension::AddExtension;
use tower_http::csrf::ConfigError;
use tower_http::set_header::SetResponseHeaderLayer;

/// How HTTP is served.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What clients may use.
    pub limits: Limits,
    /// Who may connect.
    pub admission: Admission,
    /// Host names by which clients may know the daemon, beside addresses and `localhost`.
    pub hosts: Vec<Host>,
    /// Whose web pages may send requests and read the answers, beside the daemon's own.
    pub origins: Vec<Origin>,
    /// Reverse proxies, whose header `X-Forwarded-For` says from where a request comes.
    pub trusted_proxies: Vec<Network>,
    /// The namespace of CBOR-RPC clients.
    pub namespace: String,
    /// A path before all others, such as `/jobs`, or nothing.
    pub base_path: String,
    /// Where metrics come from.
    pub metrics: Sources,
    /// Keys of data whose values the page does not show.
    pub redacted: Vec<String>,
}

/// What a client gets that speaks HTTP without TLS where it has to use TLS.
const PLAIN_HTTP_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 60\r\n\
    Connection: close\r\n\r\nthis address is for HTTPS: use https:// instead of http://.\n";

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The running HTTP server.
#[derive(Debug)]
pub struct Http {
    control: Control,
    visible: Arc<Visible>,
    thread: JoinHandle<io::Result<()>>,
}

impl Http {
    /// Serves HTTP at `sockets` from now on, on a thread of its own. If that ends early, it stops the daemon.
    ///
    /// # Errors
    /// If the system refuses a thread or a runtime.
    pub fn start<S: Storage + 'static>(
        sockets: Vec<BoundSocket>,
        settings: Settings,
        submitter: Submitter<S>,
        stopper: Stopper,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(READER_THREADS)
            .thread_name("http-reader")
            .build()?;
        let base_path = settings.base_path.trim_end_matches('/');
        let metrics = Metrics::new(
            settings.metrics.clone(),
            base_path,
            settings.limits.connections_max,
        );
        let shared = Shared::new(
            submitter,
            settings.limits,
            &settings.trusted_proxies,
            Arc::clone(&metrics),
            &settings.namespace,
        );
        let visible = Arc::new(Visible::default());
        let router =
            router(Arc::new(shared), Arc::clone(&visible), &settings).map_err(io::Error::other)?;
        let control = Control::new();
        let of_thread = control.clone();
        let thread = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                let served = serve(&runtime, sockets, &settings, metrics, &router, &of_thread);
                runtime.shutdown_background();
                if let Err(error) = &served {
                    tracing::error!("HTTP has ended: {error}");
                    if let Err(error) = stopper.stop() {
                        tracing::error!("cannot stop the event loop: {error}");
                    }
                }
                served
            })?;
        Ok(Self {
            control,
            visible,
            thread,
        })
    }

    /// Takes no more connections, waits a little until the last answers are sent, and ends. Call this once the event loop
    /// has ended.
    ///
    /// # Errors
    /// If HTTP had ended by itself.
    pub fn stop(self) -> io::Result<()> {
        self.visible.stop();
        self.control.graceful_shutdown(Some(STOP_MAX));
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err(io::Error::other("the HTTP thread has panicked")))
    }
}

/// All routes.
///
/// # Errors
/// See [`guard::refuse_foreign_origins`].
fn router<S: Storage>(
    shared: Arc<Shared<S>>,
    visible: Arc<Visible>,
    settings: &Settings,
) -> Result<Router, ConfigError> {
    let base_path = settings.base_path.trim_end_matches('/');
    let admitted = |who| from_fn_with_state((Arc::clone(&shared), who), admit::<S>);
    let origins = settings.origins.as_slice();
    let rest = Rest::new(Arc::clone(&shared), &settings.namespace, base_path, origins);
    let state = State {
        shared: Arc::clone(&shared),
        rest: Arc::new(rest),
    };
    let mut router = Router::new();
    for route in routes::routes() {
        router = router.route(route.path, route.handler.layer(admitted(route.who)));
    }
    let ui = Ui::new(
        Arc::clone(&shared),
        visible,
        &settings.namespace,
        base_path,
        &settings.redacted,
    );
    // Browsers send the cookie of a session also for other origins of the same site: so none may use these forms.
    let ui = ui::router(ui).layer(guard::refuse_foreign_origins(&[])?);
    let router = router
        .method_not_allowed_fallback(method_not_allowed.layer(admitted(Who::Known)))
        .with_state(state)
        .merge(ui)
        .layer(from_fn_with_state(
            Arc::from(base_path),
            ui::redirect_browsers,
        ));
    let router = match base_path {
        "" => router,
        base_path => Router::new().nest(base_path, router),
    };
    let hosts: Arc<[Host]> = settings.hosts.clone().into();
    let no_store = HeaderValue::from_static("no-store");
    let no_sniff = HeaderValue::from_static("nosniff");
    let mut router = router
        .fallback(not_found.layer(admitted(Who::Known)))
        .layer(guard::refuse_foreign_origins(origins)?);
    if !origins.is_empty() {
        router = router.layer(guard::allow_origins(origins));
    }
    Ok(router
        .layer(from_fn_with_state(hosts, guard::check_host))
        .layer(SetResponseHeaderLayer::if_not_present(
            CACHE_CONTROL,
            no_store,
        ))
        .layer(SetResponseHeaderLayer::overriding(
            X_CONTENT_TYPE_OPTIONS,
            no_sniff,
        ))
        .layer(from_fn(close_after_unread))
        .layer(from_fn_with_state(
            Arc::clone(&shared.metrics),
            metrics::count_request,
        )))
}

async fn not_found(uri: Uri) -> Problem {
    Problem::new(
        problem::NOT_FOUND,
        format!("nothing is at {}; GET /rpc lists the methods", uri.path()),
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    Problem::new(
        problem::METHOD_NOT_ALLOWED,
        format!("{} does not take {method}", uri.path()),
    )
}

/// Serves until `control` says to stop.
fn serve(
    runtime: &Runtime,
    sockets: Vec<BoundSocket>,
    settings: &Settings,
    metrics: Arc<Metrics>,
    router: &Router,
    control: &Control,
) -> io::Result<()> {
    let _entered = runtime.enter();
    let gate = Gate {
        admission: Arc::new(settings.admission.clone()),
        metrics,
        limits: settings.limits,
    };
    let mut listeners = JoinSet::new();
    // The files of Unix sockets are removed at the end.
    let mut files = Vec::new();
    for socket in sockets {
        match socket {
            BoundSocket::Tcp(listener) => {
                let server = axum_server::from_tcp(listener)?;
                spawn(
                    &mut listeners,
                    server,
                    gate.clone(),
                    settings,
                    router,
                    control,
                );
            }
            BoundSocket::Tls(listener, tls) => {
                let server = axum_server::from_tcp(listener)?;
                let gate = TlsGate {
                    gate: gate.clone(),
                    tls,
                };
                spawn(&mut listeners, server, gate, settings, router, control);
            }
            BoundSocket::Unix(listener, file) => {
                files.push(file);
                let server = axum_server::from_unix(listener)?;
                spawn(
                    &mut listeners,
                    server,
                    gate.clone(),
                    settings,
                    router,
                    control,
                );
            }
        }
    }
    runtime.block_on(async {
        while let Some(ended) = listeners.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    })
}

fn spawn<A, G>(
    listeners: &mut JoinSet<io::Result<()>>,
    server: axum_server::Server<A>,
    gate: G,
    settings: &Settings,
    router: &Router,
    control: &Control,
) where
    A: Address + Send + Sync + 'static,
    A::Stream: Peer,
    A::Listener: Send + Sync,
    G: Accept<A::Stream, Router, Service = AddExtension<Router, Connection>>
        + Clone
        + Send
        + Sync
        + 'static,
    G::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    G::Future: Send,
{
    let head_time_max = settings.limits.head_time_max;
    let handle = Handle::with_control(control.clone());
    let mut server = server
        .acceptor(gate)
        .handle(handle)
        .http1_only()
        .first_request_timeout(head_time_max);
    server
        .http_builder()
        .http1()
        .header_read_timeout(head_time_max)
        .max_buf_size(HEAD_BYTES_MAX);
    listeners.spawn(server.serve(router.clone().into_make_service()));
}

/// A connection, as its requests know it. Its place among all connections is free once this is dropped.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// `None` for one over a Unix socket.
    peer: Option<IpAddr>,
    is_tls: bool,
    _place: Arc<OwnedSemaphorePermit>,
}

impl Connection {
    /// Where it comes from; `None` over a Unix socket.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// True if it is encrypted.
    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// True if it came over a Unix socket.
    pub(super) fn is_local_socket(&self) -> bool {
        self.peer.is_none()
    }
}

/// Lets connections in.
#[derive(Clone)]
struct Gate {
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    limits: Limits,
}

/// Lets connections with TLS in.
#[derive(Clone)]
struct TlsGate {
    gate: Gate,
    tls: Arc<TlsServer>,
}

impl<S: Send + 'static> Accept<TcpStream, S> for TlsGate {
    type Stream = TlsStream<Pin<Box<TimeoutStream<TcpStream>>>>;
    type Service = AddExtension<S, Connection>;
    type Future = BoxFuture<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let admitted = self.gate.admit(&stream);
        let (gate, config) = (self.gate.clone(), self.tls.config());
        Box::pin(async move {
            let connection = admitted?;
            let handshake = shake_hands(&gate, stream, config);
            let stream = match timeout(HANDSHAKE_MAX, handshake).await {
                Ok(Ok(stream)) => stream,
                failed => {
                    gate.metrics.failed_tls.add(1);
                    let error = match failed {
                        Ok(Err(error)) => error,
                        _ => ErrorKind::TimedOut.into(),
                    };
                    tracing::debug!(peer = ?connection.peer, "TLS failed on an HTTP connection: {error}");
                    return Err(error);
                }
            };
            let connection = Connection {
                is_tls: true,
                ..connection
            };
            Ok((stream, AddExtension::new(service, connection)))
        })
    }
}

/// The handshake of TLS. A client that speaks plain HTTP is told so.
async fn shake_hands(
    gate: &Gate,
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
) -> io::Result<TlsStream<Pin<Box<TimeoutStream<TcpStream>>>>> {
    let mut first = [0];
    let is_empty = stream.peek(&mut first).await? == 0;
    if is_empty || first == [FIRST_BYTE] {
        return TlsAcceptor::from(config).accept(gate.limited(stream)).await;
    }
    stream.write_all(PLAIN_HTTP_ANSWER).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would discard the answer.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Err(io::Error::new(
        ErrorKind::InvalidData,
        "the client does not speak TLS",
    ))
}

/// A connection's socket.
trait Peer: AsyncRead + AsyncWrite + Send + 'static {
    /// Where it comes from; `None` for a Unix socket.
    fn address(&self) -> io::Result<Option<IpAddr>>;
}

impl Peer for TcpStream {
    fn address(&self) -> io::Result<Option<IpAddr>> {
        // Each answer is written in one piece, and must not wait for the confirmation of the one before.
        self.set_nodelay(true)?;
        Ok(Some(self.peer_addr()?.ip()))
    }
}

impl Peer for UnixStream {
    fn address(&self) -> io::Result<Option<IpAddr>> {
        Ok(None)
    }
}

impl<I: Peer, S> Accept<I, S> for Gate {
    type Stream = Pin<Box<TimeoutStream<I>>>;
    type Service = AddExtension<S, Connection>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        ready(self.admit(&stream).map(|connection| {
            let stream = self.limited(stream);
            (stream, AddExtension::new(service, connection))
        }))
    }
}

impl Gate {
    /// A stream whose writes may not take for too long.
    fn limited<I: Peer>(&self, stream: I) -> Pin<Box<TimeoutStream<I>>> {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limits.stall_max));
        Box::pin(stream)
    }

    /// Gives a connection a place.
    ///
    /// # Errors
    /// If it may not connect, or if there is no place.
    fn admit(&self, stream: &impl Peer) -> io::Result<Connection> {
        let peer = stream.address()?;
        if peer.is_some_and(|peer| !self.admission.admits(peer)) {
            self.metrics.refused_networks.add(1);
            return Err(ErrorKind::PermissionDenied.into());
        }
        let place = Arc::clone(&self.metrics.connections).try_acquire_owned();
        let place = place.map_err(|_| {
            self.metrics.refused_connections.add(1);
            io::Error::other("too many connections")
        })?;
        Ok(Connection {
            peer,
            is_tls: false,
            _place: Arc::new(place),
        })
    }
}
