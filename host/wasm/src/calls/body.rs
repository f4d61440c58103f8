//! A request body that is kept, so that it can be sent again.
//!
//! It lies with the host and not in the guest's memory, so what all calls of a component keep at once has a bound too.

use crate::ctx::Identity;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wasmtime_wasi_http::{Error, WasiBody};

/// The most bytes of one body.
pub(super) const MAX_BODY: usize = 1 << 20;
/// The most bytes that all calls of a component keep at once: as much as one memory has by default.
const MAX_KEPT: usize = 64 << 20;

/// A body that is read to its end.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
    _room: Room,
}

/// Why a body cannot be kept.
#[derive(Debug)]
pub(super) enum NotKept {
    /// It has more than [`MAX_BODY`] bytes.
    TooLarge,
    /// The component keeps [`MAX_KEPT`] bytes already.
    NoRoom,
    /// It broke off.
    Broken(Error),
}

impl Kept {
    /// Reads a body to its end.
    ///
    /// # Cancel safety
    /// What was read is lost.
    pub(super) async fn read(mut body: WasiBody, identity: &Arc<Identity>) -> Result<Self, NotKept> {
        let mut room = Room { identity: identity.clone(), bytes: 0 };
        let (mut bytes, mut trailers) = (BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            match frame.map_err(NotKept::Broken)?.into_data() {
                Ok(data) if data.len() > MAX_BODY - bytes.len() => return Err(NotKept::TooLarge),
                Ok(data) => {
                    room.grow(data.len())?;
                    bytes.extend_from_slice(&data);
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        Ok(Self { bytes: bytes.freeze(), trailers, _room: room })
    }

    /// The body once more.
    pub(super) fn again(&self) -> WasiBody {
        let body = Full::new(self.bytes.clone()).map_err(|never| match never {});
        match self.trailers.clone() {
            Some(trailers) => body.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed_unsync(),
            None => body.boxed_unsync(),
        }
    }
}

/// What a body takes of the bytes that its component may keep.
struct Room {
    identity: Arc<Identity>,
    bytes: usize,
}

impl Room {
    fn grow(&mut self, bytes: usize) -> Result<(), NotKept> {
        self.bytes += bytes;
        let kept = self.identity.kept.fetch_add(bytes, Ordering::AcqRel) + bytes;
        if kept > MAX_KEPT { Err(NotKept::NoRoom) } else { Ok(()) }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.identity.kept.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine::Caller;

    fn identity() -> Arc<Identity> {
        Arc::new(Identity::new(("app".to_owned(), Caller::default()), "app", &[], 1, Arc::default()).unwrap())
    }

    fn body(bytes: usize) -> WasiBody {
        Full::new(Bytes::from(vec![7; bytes])).map_err(|never| match never {}).boxed_unsync()
    }

    #[tokio::test]
    async fn a_body_is_the_same_each_time() {
        let identity = identity();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let ended = body(3).with_trailers(std::future::ready(Some(Ok(trailers.clone())))).boxed_unsync();
        let kept = Kept::read(ended, &identity).await.unwrap();
        for _ in 0..2 {
            let sent = kept.again().collect().await.unwrap();
            assert_eq!(sent.trailers(), Some(&trailers));
            assert_eq!(sent.to_bytes(), [7; 3][..]);
        }
    }

    #[tokio::test]
    async fn a_body_has_a_bound_and_all_of_a_component_have_one() {
        let identity = identity();
        assert!(matches!(Kept::read(body(MAX_BODY + 1), &identity).await, Err(NotKept::TooLarge)));
        let mut kept = Vec::new();
        for _ in 0..MAX_KEPT / MAX_BODY {
            kept.push(Kept::read(body(MAX_BODY), &identity).await.unwrap());
        }
        assert!(matches!(Kept::read(body(1), &identity).await, Err(NotKept::NoRoom)));
        kept.pop();
        assert!(Kept::read(body(MAX_BODY), &identity).await.is_ok());
        drop(kept);
        assert_eq!(identity.kept.load(Ordering::Acquire), 0);
    }
}
