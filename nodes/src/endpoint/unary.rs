//! Calls of one endpoint over gRPC: a message out, a message back.

use super::{
    Failure, SILENCE, Target,
    site::Way,
    wire::{LARGEST, Named},
};
use crate::NodeError;
use prost::Message;
use schema::ByteSize;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

/// How much earlier than the engine's own the clock of a connection may ring.
const ROUNDING: Duration = Duration::from_millis(2);

/// What a method says that asks whether a server is ready.
#[derive(Clone, PartialEq, Message)]
struct Ready {
    #[prost(bool, tag = "1")]
    ready: bool,
}

impl Target {
    /// Calls a method, `/package.Service/Method`. The server is told how long there is until
    /// `deadline`, and learns it when the future is dropped.
    pub(crate) async fn unary<Q, A>(
        &self,
        method: &'static str,
        message: Q,
        deadline: Option<Instant>,
        named: Named<'_>,
    ) -> Result<A, Failure>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        if message.encoded_len() > LARGEST {
            let most = ByteSize(LARGEST as u64);
            let reason = format!("the request to {} has more than {most}", self.name());
            return Err(Failure::of_item(NodeError::invalid(reason)));
        }
        let begun = Instant::now();
        let time = deadline.map_or(SILENCE, |deadline| {
            deadline.saturating_duration_since(begun)
        });
        let mut request = Request::new(message);
        request.set_timeout(time);
        let answer = self.send_message(method, request).await;
        answer.map_err(|status| {
            let over = begun.elapsed() + ROUNDING >= time;
            match status.code() {
                Code::DeadlineExceeded => Failure::late(time),
                Code::Cancelled if over && deadline.is_some() => Failure::late(time),
                Code::Cancelled if over => {
                    Failure::unreachable(format!("{} has been silent for too long", self.name()))
                }
                _ => Failure::of_grpc(self.name(), &status, named),
            }
        })
    }

    async fn send_message<Q, A>(
        &self,
        method: &'static str,
        request: Request<Q>,
    ) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let Way::Grpc(channel) = &self.site().way else {
            return Err(Status::internal("the address is not one of gRPC"));
        };
        let mut client = Grpc::new(channel.clone())
            .max_decoding_message_size(LARGEST)
            .max_encoding_message_size(LARGEST);
        let ready = client.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        let method = PathAndQuery::from_static(method);
        let answer = client.unary(request, method, ProstCodec::default()).await?;
        Ok(answer.into_inner())
    }

    /// Whether a server says that it is ready, or does not know the question.
    pub(super) async fn is_ready(&self, method: &'static str) -> bool {
        match self.send_message(method, Request::new(())).await {
            Ok(Ready { ready }) => ready,
            Err(status) => status.code() == Code::Unimplemented,
        }
    }
}
