//! The beginning of a body that may have to be sent again: a server refuses a
//! stream only after its client has begun to send.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// Maximum that is kept of a body, in bytes.
const MOST: usize = 64 << 10;

/// A body so far.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pieces: Vec<Bytes>,
    size: usize,
    trailers: Option<HeaderMap>,
    /// Number of frames that were sent in this attempt.
    sent: usize,
}

impl Replay {
    /// Begins again.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// True if all that is kept was sent in this attempt.
    pub(super) fn is_over(&self) -> bool {
        self.sent >= self.pieces.len() + usize::from(self.trailers.is_some())
    }

    /// Returns the next frame that is kept.
    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        let frame = match self.pieces.get(self.sent) {
            Some(piece) => Frame::data(piece.clone()),
            None if self.sent == self.pieces.len() => Frame::trailers(self.trailers.clone()?),
            None => return None,
        };
        self.sent += 1;
        Some(frame)
    }
}

/// Notes a frame that is sent for the first time. A long body is not kept.
pub(super) fn note(replay: &mut Option<Replay>, frame: &Frame<Bytes>) {
    let Some(kept) = replay else {
        return;
    };
    if let Some(piece) = frame.data_ref() {
        kept.size += piece.len();
        if kept.size > MOST {
            *replay = None;
            return;
        }
        kept.pieces.push(piece.clone());
    } else if let Some(trailers) = frame.trailers_ref() {
        kept.trailers = Some(trailers.clone());
    }
    kept.sent += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(frame: Option<Frame<Bytes>>) -> Option<Bytes> {
        frame?.into_data().ok()
    }

    #[test]
    fn a_short_body_comes_again_with_its_trailers() {
        let mut replay = Some(Replay::default());
        for piece in ["one", "two"] {
            note(&mut replay, &Frame::data(piece.into()));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x", http::HeaderValue::from_static("y"));
        note(&mut replay, &Frame::trailers(trailers));
        let kept = replay.as_mut().expect("it is short");
        assert!(kept.is_over() && kept.next().is_none());
        kept.rewind();
        assert_eq!(text(kept.next()).expect("a piece"), "one");
        assert_eq!(text(kept.next()).expect("a piece"), "two");
        assert!(!kept.is_over());
        assert!(kept.next().is_some_and(|it| it.is_trailers()));
        assert!(kept.is_over() && kept.next().is_none());
        note(&mut replay, &Frame::data(vec![0; MOST].into()));
        assert!(replay.is_none());
    }
}
