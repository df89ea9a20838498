//! The settings with which a server of HTTP/2 begins, as the client's wire sees them
//! pass. Hyper does not tell them.

/// Length of a frame's header in bytes: RFC 9113, section 4.1.
const HEAD: usize = 9;

/// Type of a SETTINGS frame, and length of a setting in it: section 6.5.
const SETTINGS: u8 = 4;
const SETTING: usize = 6;

/// Number of `SETTINGS_MAX_CONCURRENT_STREAMS`: section 6.5.2.
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// Maximum of a SETTINGS frame that is read, in bytes without its header.
const MOST: usize = 128 * SETTING;

/// Reader of the first frame of a connection, which is SETTINGS: section 3.4.
#[derive(Debug, Default)]
pub(super) struct FirstSettings {
    /// Bytes of the frame so far.
    read: Vec<u8>,
    has_ended: bool,
}

impl FirstSettings {
    /// Returns a reader for a connection that has none.
    pub(super) fn none() -> Self {
        Self {
            has_ended: true,
            ..Self::default()
        }
    }

    /// Takes bytes that were received. Returns how many streams the server takes at
    /// once, when it tells that.
    pub(super) fn take(&mut self, received: &[u8]) -> Option<u32> {
        if self.has_ended {
            return None;
        }
        let room = (HEAD + MOST).saturating_sub(self.read.len());
        self.read.extend(received.iter().take(room));
        let (head, settings) = self.read.split_first_chunk::<HEAD>()?;
        let [high, middle, low, kind, ..] = *head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut streams = None;
        if kind == SETTINGS && length <= MOST {
            // The rest is still to come.
            let settings = settings.get(..length)?;
            streams = streams_in(settings);
        }
        *self = Self::none();
        streams
    }
}

/// Returns the last `SETTINGS_MAX_CONCURRENT_STREAMS`.
fn streams_in(settings: &[u8]) -> Option<u32> {
    let settings = settings.chunks_exact(SETTING).rev();
    let mut told = settings.filter_map(|setting| {
        let (number, value) = setting.split_first_chunk::<2>()?;
        let is_it = u16::from_be_bytes(*number) == MAX_CONCURRENT_STREAMS;
        let value = u32::from_be_bytes(*value.first_chunk()?);
        is_it.then_some(value)
    });
    told.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a frame of this type with these settings.
    fn frame(kind: u8, settings: &[(u16, u32)]) -> Vec<u8> {
        let length = u8::try_from(settings.len() * SETTING).expect("a short frame");
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 0];
        for (number, value) in settings {
            frame.extend(number.to_be_bytes());
            frame.extend(value.to_be_bytes());
        }
        frame
    }

    #[test]
    fn the_number_of_streams_is_found_wherever_receives_end() {
        let frame = frame(SETTINGS, &[(1, 4096), (3, 5), (4, 65_535)]);
        for piece in 1..=frame.len() {
            let mut reader = FirstSettings::default();
            let mut told = frame.chunks(piece).filter_map(|it| reader.take(it));
            assert_eq!(told.next(), Some(5), "{piece}");
            assert_eq!(reader.take(&frame), None, "only the first frame is read");
        }
    }

    #[test]
    fn the_last_of_several_numbers_holds() {
        let frame = frame(SETTINGS, &[(3, 5), (3, 7)]);
        assert_eq!(FirstSettings::default().take(&frame), Some(7));
    }

    #[test]
    fn what_does_not_tell_is_read_no_further() {
        let (without, other) = (frame(SETTINGS, &[(4, 1)]), frame(6, &[(3, 5)]));
        let long = [0xff, 0xff, 0xff, SETTINGS, 0, 0, 0, 0, 0];
        let empty = frame(SETTINGS, &[]);
        for first in [&*without, &*other, &long, &*empty] {
            let mut reader = FirstSettings::default();
            assert_eq!(reader.take(first), None);
            assert_eq!(reader.take(&frame(SETTINGS, &[(3, 5)])), None);
            assert!(reader.has_ended);
        }
        assert_eq!(
            FirstSettings::none().take(&frame(SETTINGS, &[(3, 5)])),
            None
        );
    }
}
