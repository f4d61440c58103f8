//! Bodies that are read to their end before anything is done: of the lease API and of the admin API.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::problem::Problem;

/// How much of a body is read, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes.
    pub(crate) most: usize,
    /// All of it must have come by then, however steadily it comes.
    pub(crate) time: Duration,
    /// What to do where it is larger.
    pub(crate) instead: &'static str,
}

/// Reads a whole body.
///
/// # Errors
/// It is too large, too slow, or cut off.
///
/// # Cancel safety
/// What has been read is lost.
pub(crate) async fn whole<B>(body: B, bounds: Bounds) -> Result<Bytes, Box<Problem>>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Bounds { most, time, instead } = bounds;
    match tokio::time::timeout(time, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the body is larger than {most} bytes: {instead}");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).because("body-too-large").into())
        }
        Ok(Err(error)) => Err(Problem::bad_request("body", format!("it did not arrive whole: {error}")).into()),
        Err(_elapsed) => {
            let detail = format!("the body did not arrive within {}", weir_engine::format_duration(time));
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail).because("body-too-slow").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use std::convert::Infallible;

    const BOUNDS: Bounds = Bounds { most: 3, time: Duration::from_secs(10), instead: "send less" };

    #[tokio::test]
    async fn a_body_comes_whole_or_not_at_all() {
        assert_eq!(whole(Full::new(Bytes::from_static(b"abc")), BOUNDS).await.unwrap(), "abc");
        let large = whole(Full::new(Bytes::from_static(b"abcd")), BOUNDS).await.unwrap_err();
        assert_eq!((large.status, large.detail.as_str()), (413, "the body is larger than 3 bytes: send less"));
        assert_eq!(large.reason.as_deref(), Some("body-too-large"));
        let never = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let slow = whole(never, Bounds { time: Duration::from_millis(1), ..BOUNDS }).await.unwrap_err();
        assert_eq!((slow.status, slow.detail.as_str()), (408, "the body did not arrive within 1ms"));
        assert_eq!(slow.reason.as_deref(), Some("body-too-slow"));
    }
}
