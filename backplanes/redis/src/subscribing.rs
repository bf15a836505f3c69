//! Subscribing and unsubscribing channels.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, RedisError};

use crate::connect::{Servers, shard_command};
use crate::history::Keys;

pub(crate) type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Topics with their channels and keys.
pub(crate) type Topics = Vec<(Arc<str>, Keys)>;

impl Servers {
    /// Returns the futures of a change of subscriptions. Their results are topics that are not
    /// permitted.
    pub(crate) fn changes(
        &self,
        names: Vec<(usize, Topics)>,
        plain: &'static str,
        sharded: &'static str,
    ) -> Vec<Pending<Result<Vec<Arc<str>>, RedisError>>> {
        let is_cluster = self.is_cluster();
        let changes = names.into_iter().map(|(number, names)| {
            let conn = self.all[number].subscriber.clone();
            let change: Pending<_> = match is_cluster {
                true => Box::pin(change_sharded(conn, names, sharded)),
                false => Box::pin(change_plain(conn, names, plain)),
            };
            change
        });
        changes.collect()
    }
}

/// Subscribes or unsubscribes channels in one command.
async fn change_plain(
    mut conn: MultiplexedConnection,
    names: Topics,
    command: &'static str,
) -> Result<Vec<Arc<str>>, RedisError> {
    let channels: Vec<&str> = names
        .iter()
        .map(|(_, keys)| keys.channel.as_str())
        .collect();
    let result = match command {
        "SUBSCRIBE" => conn.subscribe(&channels).await,
        _ => conn.unsubscribe(&channels).await,
    };
    let mut refused = Vec::new();
    match result {
        Err(error) if is_forbidden(&error) => {
            // One channel that is not permitted refuses all.
            for (name, keys) in &names {
                match conn.subscribe(&keys.channel).await {
                    Err(error) if is_forbidden(&error) => refused.push(name.clone()),
                    result => result?,
                }
            }
        }
        result => result?,
    }
    Ok(refused)
}

/// Subscribes or unsubscribes channels of a cluster, each with its own command, because the
/// channels of one command would have to be in one slot.
async fn change_sharded(
    mut conn: MultiplexedConnection,
    names: Topics,
    command: &'static str,
) -> Result<Vec<Arc<str>>, RedisError> {
    let mut pipeline = Pipeline::with_capacity(names.len());
    for (_, keys) in &names {
        pipeline.add_command(shard_command(command, &keys.channel));
    }
    let answers = conn.req_packed_commands(&pipeline, 0, names.len()).await?;
    let mut refused = Vec::new();
    for (answer, (name, _)) in answers.into_iter().zip(&names) {
        match answer.extract_error() {
            Err(error) if is_forbidden(&error) => refused.push(name.clone()),
            answer => drop(answer?),
        }
    }
    Ok(refused)
}

fn is_forbidden(error: &RedisError) -> bool {
    error.code() == Some("NOPERM")
}

/// Distributes topics to the servers of their channels.
pub(crate) fn by_server(
    servers: &Servers,
    prefix: &str,
    names: Vec<Arc<str>>,
) -> Vec<(usize, Topics)> {
    let mut lists: Vec<Vec<_>> = servers.all.iter().map(|_| Vec::new()).collect();
    for name in names {
        let keys = Keys::new(prefix, &name);
        lists[servers.of(&keys.channel)].push((name, keys));
    }
    let lists = lists.into_iter().enumerate();
    lists.filter(|(_, list)| !list.is_empty()).collect()
}

pub(crate) fn publish_command(servers: &Servers) -> &'static str {
    match servers.is_cluster() {
        true => "SPUBLISH",
        false => "PUBLISH",
    }
}
