//! What goes over a connection, and why it failed.

use cache_core::Error;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};

/// What goes over a lane in one round trip.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    One(&'a redis::Cmd),
    Many(&'a redis::Pipeline),
    /// The replies from `offset` on, `count` of them, as the driver asks for.
    Part {
        pipeline: &'a redis::Pipeline,
        offset: usize,
        count: usize,
    },
}

impl Request<'_> {
    pub(super) async fn send(self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        match self {
            Self::One(command) => connection.send_packed_command(command).await?.extract_error(),
            Self::Many(pipe) => pipe.query_async(connection).await,
            Self::Part { pipeline, offset, count } => {
                connection.send_packed_commands(pipeline, offset, count).await.map(Value::Array)
            }
        }
    }
}

/// Why a request over a lane failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// There is no connection.
    Down(Error),
    /// The deadline passed.
    Late,
    /// The deadline passed at one server of a cluster, which is silent; others serve.
    LateInPart,
    /// The driver or the server refused it.
    Driver(redis::RedisError),
}
