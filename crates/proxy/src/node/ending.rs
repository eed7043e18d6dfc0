//! How opaque connections end, in the words of events.

use tacit_model::event::{Ending, Fault};
use tacit_transport::relay::Side;
use tacit_transport::{DialError, DialFault, Ended, Relayed};

/// The ending of a connection that was not opened.
pub(crate) fn of_dial(error: &DialError) -> Ending {
    let reason = error.to_string();
    let fault = match &error.fault {
        DialFault::PeerRefused {
            status: 401 | 403,
            refusal,
        } => {
            let reason = refusal.clone().unwrap_or(reason);
            return Ending::Denied { reason, by: None };
        }
        DialFault::ConnectFailed | DialFault::PeerRefused { .. } => Fault::Connect,
        DialFault::NoIdentity | DialFault::Tls => Fault::Tls,
        DialFault::SessionLost => Fault::Reset,
        DialFault::Timeout(_) => Fault::Timeout,
    };
    Ending::Failed { fault, reason }
}

/// The ending of a relay whose side A is the caller.
pub(crate) fn of_relay(relayed: &Relayed) -> Ending {
    let fault = match &relayed.ended {
        Ended::Complete => return Ending::Complete,
        Ended::Closed(reason) => {
            return Ending::Denied {
                reason: reason.to_string(),
                by: None,
            };
        }
        Ended::Failed { side: Side::A, .. } => Fault::ClientGone,
        Ended::Failed { side: Side::B, .. } => Fault::Reset,
        Ended::Idle(_) => Fault::Timeout,
    };
    Ending::Failed {
        fault,
        reason: relayed.ended.to_string(),
    }
}
