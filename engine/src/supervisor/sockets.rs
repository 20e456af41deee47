//! Sockets of a generation that listens elsewhere: open before it is served, closed after.

use super::{Problems, Supervisor};
use graphs::{Plan, Program, plan::Step};
use tokio::net::TcpListener;
use tracing::info;

/// Sockets that are open and that nobody serves yet.
#[derive(Debug, Default)]
pub(super) struct Opened {
    public: Option<TcpListener>,
    admin: Option<TcpListener>,
}

/// Whether other machines can ask there.
fn is_public(listener: &TcpListener) -> bool {
    let address = listener.local_addr();
    address.map_or(true, |address| !address.ip().is_loopback())
}

impl Supervisor {
    /// Opens the sockets that are new. Nobody is served there before the generation is published.
    pub(super) async fn open(&self, plan: &Plan, program: &Program) -> Result<Opened, Problems> {
        let (settings, server) = (&self.settings, program.server());
        let mut opened = Opened::default();
        let mut problems = Vec::new();
        for (what, step, own, address, socket) in [
            (
                "listen",
                &plan.listen,
                settings.own_listen,
                &server.listen,
                &mut opened.public,
            ),
            (
                "admin",
                &plan.admin,
                settings.own_admin,
                &server.admin,
                &mut opened.admin,
            ),
        ] {
            if *step == Step::Keep || own {
                continue;
            }
            match TcpListener::bind(address.expose()).await {
                Ok(listener) => *socket = Some(listener),
                Err(error) => {
                    problems.push(format!("`{what}`: cannot listen on {}: {error}", **address));
                }
            }
        }
        match problems.is_empty() {
            true => Ok(opened),
            false => Err(problems),
        }
    }

    /// Lets requests in at the new sockets and closes the old ones.
    pub(super) fn hand_over(&mut self, opened: Opened) {
        let address = |listener: &TcpListener| listener.local_addr().map(|it| it.to_string());
        if let Some(listener) = opened.public {
            self.settings.public = is_public(&listener);
            let listen = address(&listener).unwrap_or_default();
            info!(listen, "taking requests in at another address");
            self.doors.open_public(listener);
        }
        if let Some(listener) = opened.admin {
            let admin = address(&listener).unwrap_or_default();
            info!(admin, "serving operators at another address");
            self.doors.open_admin(listener);
        }
    }

    /// Whether requests can come from other machines once these sockets are used.
    pub(super) fn would_be_public(&self, opened: &Opened) -> bool {
        let public = opened.public.as_ref();
        public.map_or(self.settings.public, is_public)
    }
}
