//! The byte stream as an HTTP body, as fast as it goes or at a rate.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use harness::bytes;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Most bytes that are made at once.
const CHUNK: u64 = 64 * 1_024;
/// A slow body's chunks per second.
const CHUNKS_PER_SECOND: u64 = 20;

/// A body whose bytes follow from their positions.
pub struct StreamBody {
    position: u64,
    size: u64,
    chunk: u64,
    pace: Option<Interval>,
}

impl StreamBody {
    /// `size` bytes at `rate` bytes per second; 0 does not limit.
    pub fn new(size: u64, rate: u64) -> Self {
        if rate == 0 {
            return Self { position: 0, size, chunk: CHUNK, pace: None };
        }
        let chunk = (rate / CHUNKS_PER_SECOND).clamp(1, CHUNK);
        let nanoseconds = u128::from(chunk) * 1_000_000_000 / u128::from(rate);
        let mut pace = interval(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX).max(1)));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { position: 0, size, chunk, pace: Some(pace) }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let count = self.chunk.min(self.size - self.position);
        if count == 0 {
            return Poll::Ready(None);
        }
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll_tick(cx));
        }
        let mut chunk = vec![0; usize::try_from(count).unwrap_or_default()];
        bytes::fill(self.position, &mut chunk);
        self.position += count;
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.position == self.size
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size - self.position)
    }
}
