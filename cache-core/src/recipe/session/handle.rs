//! What an application calls.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::id::place_of;
use super::{Held, Lifetime, SessionId, SessionName, SessionStore, Times};
use crate::codec::Codec;
use crate::{Error, ErrorKind, Result, check_key, check_value};

/// Sessions that hold a `V`. Each call is one round trip, except [`rotate_as`](Self::rotate_as), which is two; clones
/// share the store.
///
/// A session that has ended, an id that never was and one of another prefix are alike: `None` or `false`.
///
/// # Errors
/// Every call: `Codec` if the data is no `V`, `TooLarge` if it is over the store's limit, `Conflict` if the keys hold
/// something else; else what the store says. No error and no `Debug` shows an id, a user or data.
///
/// # Cancellation
/// Dropping a call leaves the session either as before or as asked. A dropped [`create`](Self::create) may leave a
/// session that nobody knows the id of, until it idles out.
///
/// ```
/// use cache_core::Memory;
/// use cache_core::codec::Raw;
/// use cache_core::recipe::session::{Lifetime, SessionId, Sessions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> cache_core::Result<()> {
/// let sessions: Sessions<String> = Sessions::new(Memory::new(), Raw, Lifetime::default())?;
/// let id = sessions.create(Some("ada"), &"theme=dark".into()).await?;
/// let cookie = id.expose();
///
/// let id = SessionId::parse(&cookie).expect("our own cookie");
/// let session = sessions.touch(&id).await?.expect("it is alive");
/// assert_eq!(session.user.as_deref(), Some("ada"));
///
/// assert_eq!(sessions.destroy_all("ada").await?, 1);
/// assert!(sessions.touch(&id).await?.is_none());
/// # Ok(())
/// # }
/// ```
pub struct Sessions<V> {
    store: Arc<dyn SessionStore>,
    codec: Arc<dyn Codec<V>>,
    prefix: Arc<str>,
    idle_ms: u64,
    absolute_ms: u64,
}

/// A session that is alive.
#[derive(Clone)]
pub struct Session<V> {
    /// What it is called in lists.
    pub name: SessionName,
    /// Whose it is, if it was made for a user.
    pub user: Option<String>,
    /// What it holds.
    pub data: V,
    /// When it was made, by the store's clock.
    pub created: SystemTime,
    /// When it ends if it isn't touched.
    pub expires: SystemTime,
    /// When it ends however often it is touched.
    pub ends: SystemTime,
}

impl<V: Send + Sync + 'static> Sessions<V> {
    /// Sessions in `store`, their data written by `codec`, under keys that begin with `session`.
    ///
    /// # Errors
    /// `Invalid` if a time of `lifetime` is below 1 ms or beyond [`MAX_TTL`](crate::MAX_TTL), or the idle one is the longer.
    pub fn new(store: impl SessionStore, codec: impl Codec<V>, lifetime: Lifetime) -> Result<Self> {
        let (idle_ms, absolute_ms) = lifetime.millis()?;
        let (store, codec) = (Arc::new(store), Arc::new(codec));
        Ok(Self { store, codec, prefix: "session".into(), idle_ms, absolute_ms })
    }

    /// The same under keys that begin with `prefix`: two applications on one server take two.
    ///
    /// # Errors
    /// `Invalid` if it is no key, or too long for one, or holds a brace: the hash tag is ours.
    pub fn prefix(self, prefix: &str) -> Result<Self> {
        check_key(prefix)?;
        check_key(&key(prefix, &"0".repeat(64)))?;
        if prefix.contains(['{', '}']) {
            return Err(Error::new(ErrorKind::Invalid, "the prefix of sessions holds a brace; leave it out"));
        }
        Ok(Self { prefix: prefix.into(), ..self })
    }

    /// A new session of `user`, or of nobody in particular; its id.
    ///
    /// # Errors
    /// `Invalid` if the user could not be a key, and as every call.
    pub async fn create(&self, user: Option<&str>, data: &V) -> Result<SessionId> {
        let payload = self.encode(data)?;
        let owner = user.unwrap_or_default();
        if user.is_some() {
            checked(owner)?;
        }
        let id = SessionId::fresh(&self.prefix, user);
        let (place, name) = (self.key_of(&id), id.name().to_string());
        self.store.open(&place, &name, owner, payload, self.idle_ms, self.absolute_ms).await?;
        Ok(id)
    }

    /// The session, without touching it.
    ///
    /// # Errors
    /// As every call.
    pub async fn get(&self, id: &SessionId) -> Result<Option<Session<V>>> {
        let held = self.store.look(&self.key_of(id), &id.name().to_string()).await?;
        held.map(|held| self.decode(id.name(), held)).transpose()
    }

    /// The session, touched: its idle time begins anew. What a request does first.
    ///
    /// # Errors
    /// As every call.
    pub async fn touch(&self, id: &SessionId) -> Result<Option<Session<V>>> {
        let held = self.store.touch(&self.key_of(id), &id.name().to_string(), self.idle_ms).await?;
        held.map(|held| self.decode(id.name(), held)).transpose()
    }

    /// Replaces the data of a session, which is touched; `false` if it has ended: it is not made anew. The last writer
    /// wins.
    ///
    /// # Errors
    /// As every call.
    pub async fn save(&self, id: &SessionId, data: &V) -> Result<bool> {
        let payload = self.encode(data)?;
        self.store.save(&self.key_of(id), &id.name().to_string(), payload, self.idle_ms).await
    }

    /// Gives the session a new id, with its data and its absolute end, and touches it; the old id is nobody's from
    /// then on. `None` if it has ended.
    ///
    /// # Errors
    /// As every call. After `Timeout` neither id may be known to be the right one: ask the user to log in.
    pub async fn rotate(&self, id: &SessionId) -> Result<Option<SessionId>> {
        let fresh = id.renewed();
        let (name, to) = (id.name().to_string(), fresh.name().to_string());
        let renamed = self.store.rename(&self.key_of(id), &name, &to, self.idle_ms).await?;
        Ok(renamed.then_some(fresh))
    }

    /// What a login does with the session of a visitor: ends it, and makes one of `user` with a new id. `None` if it
    /// had ended.
    ///
    /// Two round trips, since the two are kept in different places. The old session goes first: whoever knew its id
    /// never has a session of the user. If the second one fails, or the future is dropped between the two, the visitor has
    /// none and logs in again.
    ///
    /// # Errors
    /// As every call.
    pub async fn rotate_as(&self, id: &SessionId, user: &str, data: &V) -> Result<Option<SessionId>> {
        checked(user)?;
        self.encode(data)?;
        if !self.destroy(id).await? {
            return Ok(None);
        }
        self.create(Some(user), data).await.map(Some)
    }

    /// Ends the session; whether it was alive. What a logout does.
    ///
    /// # Errors
    /// As every call.
    pub async fn destroy(&self, id: &SessionId) -> Result<bool> {
        self.store.end(&self.key_of(id), &id.name().to_string()).await
    }

    /// Ends the session of `user` that a list calls `name`; whether it was alive.
    ///
    /// # Errors
    /// `Invalid` if the user could not be a key; as every call.
    pub async fn destroy_named(&self, user: &str, name: SessionName) -> Result<bool> {
        checked(user)?;
        self.store.end(&self.key_for(user), &name.to_string()).await
    }

    /// Ends every session of `user`; how many. None that was begun before, rotated meanwhile or not, is alive after.
    ///
    /// # Errors
    /// `Invalid` if the user could not be a key; as every call.
    pub async fn destroy_all(&self, user: &str) -> Result<u64> {
        checked(user)?;
        self.store.end_all(&self.key_for(user), None).await
    }

    /// Ends every session of `user` except the one with this id; how many. What a change of password does.
    ///
    /// # Errors
    /// `Invalid` if the user could not be a key; as every call.
    pub async fn destroy_others(&self, user: &str, id: &SessionId) -> Result<u64> {
        checked(user)?;
        self.store.end_all(&self.key_for(user), Some(&id.name().to_string())).await
    }

    /// The sessions of `user`, the one that ends first first. One round trip that carries all of their data.
    ///
    /// # Errors
    /// `Invalid` if the user could not be a key; as every call.
    pub async fn list(&self, user: &str) -> Result<Vec<Session<V>>> {
        checked(user)?;
        let all = self.store.list(&self.key_for(user)).await?;
        let named = |(name, held): (String, Held)| Some((SessionName::parse(&name)?, held));
        all.into_iter().filter_map(named).map(|(name, held)| self.decode(name, held)).collect()
    }

    fn key_of(&self, id: &SessionId) -> String {
        key(&self.prefix, &id.place())
    }

    fn key_for(&self, user: &str) -> String {
        key(&self.prefix, &place_of(&self.prefix, user))
    }

    fn encode(&self, data: &V) -> Result<Bytes> {
        let bytes = self.codec.encode(data)?;
        check_value(bytes.len(), self.store.max_value())?;
        Ok(bytes)
    }

    fn decode(&self, name: SessionName, held: Held) -> Result<Session<V>> {
        let Held { times: Times { created, expires, ends }, owner, payload } = held;
        let time = |ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(UNIX_EPOCH);
        Ok(Session {
            name,
            user: Some(owner).filter(|owner| !owner.is_empty()),
            data: self.codec.decode(&payload)?,
            created: time(created),
            expires: time(expires),
            ends: time(ends),
        })
    }
}

/// A user is taken as a key is.
fn checked(user: &str) -> Result<()> {
    check_key(user).map_err(|_| {
        Error::new(ErrorKind::Invalid, "the user is empty, longer than 1024 bytes, or holds a control character")
    })
}

fn key(prefix: &str, place: &str) -> String {
    format!("{prefix}:{{{place}}}")
}

impl<V> Clone for Sessions<V> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            codec: Arc::clone(&self.codec),
            prefix: Arc::clone(&self.prefix),
            ..*self
        }
    }
}

impl<V> fmt::Debug for Sessions<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("store", &self.store.name())
            .field("idle_ms", &self.idle_ms)
            .field("absolute_ms", &self.absolute_ms)
            .finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Session<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("name", &self.name)
            .field("created", &self.created)
            .field("expires", &self.expires)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}
