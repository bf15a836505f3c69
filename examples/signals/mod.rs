//! What the examples do when they are to end: they drain.

use std::time::Duration;
use std::{io, thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wsloop::{CloseCode, Handle};

/// Who is left then is cut. Less than the time after which the system kills: 90 s for systemd, 30 s
/// for Kubernetes, 10 s for Docker.
const DEADLINE: Duration = Duration::from_secs(8);

/// Clients are closed over this time, so that they do not all come back in the same moment.
const SPREAD: Duration = Duration::from_secs(2);

/// Ends the server without loss when SIGTERM or SIGINT (Ctrl-C) comes, and at once when a second
/// one does.
pub(crate) fn drain_on_signals(handle: Handle) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        let mut signals = signals.forever();
        signals.next();
        // An error would say that the server is gone already.
        let _ = handle.drain(DEADLINE, CloseCode::GOING_AWAY, SPREAD);
        signals.next();
        let _ = handle.shutdown();
    });
    Ok(())
}
