//! Sockets: connections are taken in, held to bounds of time and size, and drained at a stop. A
//! listener can be exchanged for another ([`Doors`]) while requests run on the first.

use super::{Front, router};
use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

/// What a connection is held to.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// How long the first request, and each further request's headers, may take to arrive; a
    /// connection that is idle for longer is closed.
    pub header_timeout: Duration,
    /// Most bytes of a request's headers.
    pub max_header_bytes: usize,
    /// Most headers of a request.
    pub max_headers: usize,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(30),
            max_header_bytes: 64 << 10,
            max_headers: 128,
        }
    }
}

/// Where the listeners of [`serve`] are exchanged.
#[derive(Debug, Clone)]
pub struct Doors {
    public: mpsc::UnboundedSender<TcpListener>,
    admin: mpsc::UnboundedSender<TcpListener>,
}

/// Where [`serve`] takes its listeners from.
#[derive(Debug)]
pub struct Doorways {
    public: mpsc::UnboundedReceiver<TcpListener>,
    admin: mpsc::UnboundedReceiver<TcpListener>,
}

impl Doors {
    /// With these to begin with.
    pub fn new(public: TcpListener, admin: TcpListener) -> (Self, Doorways) {
        let (to_public, of_public) = mpsc::unbounded_channel();
        let (to_admin, of_admin) = mpsc::unbounded_channel();
        let doors = Self {
            public: to_public,
            admin: to_admin,
        };
        doors.open_public(public);
        doors.open_admin(admin);
        let ways = Doorways {
            public: of_public,
            admin: of_admin,
        };
        (doors, ways)
    }

    /// Takes requests in here from now on. The listener before is closed; what runs on its
    /// connections is answered, and then they are closed too.
    pub fn open_public(&self, listener: TcpListener) {
        // Nobody is left to serve it only when the engine stops.
        let _ = self.public.send(listener);
    }

    /// The same for operators.
    pub fn open_admin(&self, listener: TcpListener) {
        let _ = self.admin.send(listener);
    }
}

impl Doorways {
    /// Of listeners that are never exchanged.
    pub fn of(public: TcpListener, admin: TcpListener) -> Self {
        Doors::new(public, admin).1
    }
}

/// Serves the listeners that come through the doorways until `shutdown` is ready. Then no connection is taken in any more,
/// `/-/readyz` fails, and running requests are given the file's `graceful-shutdown-timeout` to
/// finish. Returns how many connections had to be cut.
pub async fn serve(
    doorways: Doorways,
    front: Arc<Front>,
    connections: Connections,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let Doorways { public, admin } = doorways;
    let mut tasks = JoinSet::new();
    let administration = crate::admin::router(Arc::clone(&front));
    let admin = tasks.spawn(async move {
        let mut listening = Listening::new(administration, connections);
        listening.accept(admin).await;
    });
    let mut listening = Listening::new(router(Arc::clone(&front)), connections);
    tokio::select! {
        () = shutdown => {}
        // Its listener goes with it, whichever of the two ends first.
        () = listening.accept(public) => {}
    }
    front.stop();
    let grace = front
        .topology()
        .program()
        .server()
        .graceful_shutdown_timeout;
    let cut = listening.drain(grace).await;
    admin.abort();
    cut
}

/// A listener's connections.
struct Listening {
    router: Router,
    connections: Connections,
    open: JoinSet<()>,
    graceful: GracefulShutdown,
}

impl Listening {
    fn new(router: Router, connections: Connections) -> Self {
        Self {
            router,
            connections,
            open: JoinSet::new(),
            graceful: GracefulShutdown::new(),
        }
    }

    /// Takes connections in, from the last listener that came, forever.
    async fn accept(&mut self, mut listeners: mpsc::UnboundedReceiver<TcpListener>) {
        let mut current: Option<TcpListener> = None;
        loop {
            let accepted = async {
                match &current {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(next) = listeners.recv() => {
                    if current.replace(next).is_some() {
                        self.turn_away();
                    }
                }
                accepted = accepted => match accepted {
                    Ok((stream, _)) => self.open(stream),
                    Err(error) => {
                        // Such as too many open files: it passes when connections close.
                        warn!(%error, "cannot take a connection in");
                        sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(_) = self.open.join_next() => {}
            }
        }
    }

    /// Has all connections end with the requests that run on them.
    fn turn_away(&mut self) {
        let graceful = std::mem::take(&mut self.graceful);
        self.open.spawn(graceful.shutdown());
    }

    fn open(&mut self, stream: TcpStream) {
        // Without this, small writes of a stream wait for the acknowledgement of the last one.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot turn off Nagle's algorithm");
        }
        let asked = Arc::new(AtomicBool::new(false));
        let (router, noted) = (self.router.clone(), Arc::clone(&asked));
        let service = service_fn(move |request: Request<Incoming>| {
            noted.store(true, Relaxed);
            router.clone().oneshot(request.map(Body::new))
        });
        let builder = builder(self.connections);
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let mut connection = Box::pin(self.graceful.watch(connection));
        let patience = self.connections.header_timeout;
        self.open.spawn(async move {
            // hyper's own timeout starts when it knows which version of HTTP is spoken.
            if timeout(patience, &mut connection).await.is_err() && asked.load(Relaxed) {
                // An error here is a client that went away or spoke badly.
                let _ = connection.await;
            }
        });
    }

    /// Waits for running requests, cuts what is left after `grace`, and says how many that were.
    async fn drain(self, grace: Duration) -> usize {
        let Self {
            mut open, graceful, ..
        } = self;
        info!(
            connections = open.len(),
            ?grace,
            "finishing what is running"
        );
        let all = async {
            graceful.shutdown().await;
            // Those of earlier listeners, which have been told before.
            while open.join_next().await.is_some() {}
        };
        if timeout(grace, all).await.is_err() {
            while open.try_join_next().is_some() {}
            warn!(connections = open.len(), "cutting what is still running");
            return open.len();
        }
        0
    }
}

fn builder(connections: Connections) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(connections.header_timeout)
        .max_headers(connections.max_headers)
        .max_buf_size(connections.max_header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(connections.header_timeout)
        .max_header_list_size(connections.max_header_bytes as u32)
        .max_concurrent_streams(256);
    builder
}
