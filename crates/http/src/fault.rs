//! What a hyper error means for a request: was it processed, is its endpoint still there?

use std::error::Error;

use tacit_transport::Broken;

/// How a try ended that was written to a connection and got no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The peer says that it did nothing with it.
    NotProcessed,
    /// The connection, or its stream, broke; the peer may have processed it.
    Reset,
    /// The session that carried it broke or went silent; the peer may have processed it.
    Unreachable,
}

impl Lost {
    /// Reads the error of a connection on which a request waited for its response.
    pub(crate) fn of(error: &hyper::Error) -> Self {
        match Broken::find(error) {
            Some(Broken::NotProcessed) => return Self::NotProcessed,
            Some(Broken::SessionLost) => return Self::Unreachable,
            Some(Broken::Reset) | None => {}
        }
        let mut next: Option<&(dyn Error + 'static)> = error.source();
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
                // A graceful GOAWAY fails only the streams above the last one processed.
                let leaving = error.is_go_away()
                    && error.is_remote()
                    && error.reason() == Some(h2::Reason::NO_ERROR);
                if refused || leaving {
                    return Self::NotProcessed;
                }
            }
            next = error.source();
        }
        Self::Reset
    }
}

/// The error with its sources, for people.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
