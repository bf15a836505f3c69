//! Ends the examples without loss on SIGTERM and Ctrl-C.

use std::time::Duration;
use std::{io, thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wsloop::{Handle, LoopsHandle, SendError, WindDown};

/// Connections that are still open after this time are cut. It must be shorter than the time after
/// which the process is killed: 90 s for systemd, 30 s for Kubernetes, 10 s for Docker.
const DEADLINE: Duration = Duration::from_secs(8);

/// The clients are closed over this time, so that they do not all reconnect at once.
const SPREAD: Duration = Duration::from_secs(2);

/// A handle to a server of one or several loops.
pub(crate) trait Ends: Send + 'static {
    fn wind_down(&self, how: WindDown) -> Result<(), SendError>;

    fn shutdown(&self) -> Result<(), SendError>;
}

/// Winds the server down at the first SIGTERM or SIGINT (Ctrl-C), and shuts it down at the second.
pub(crate) fn wind_down_on_signals(handle: impl Ends) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        let mut signals = signals.forever();
        signals.next();
        // An error means that the server has already ended.
        let _ = handle.wind_down(WindDown::within(DEADLINE).spread(SPREAD));
        signals.next();
        let _ = handle.shutdown();
    });
    Ok(())
}

impl Ends for Handle {
    fn wind_down(&self, how: WindDown) -> Result<(), SendError> {
        self.wind_down(how)
    }

    fn shutdown(&self) -> Result<(), SendError> {
        self.shutdown()
    }
}

impl Ends for LoopsHandle {
    fn wind_down(&self, how: WindDown) -> Result<(), SendError> {
        self.wind_down(how)
    }

    fn shutdown(&self) -> Result<(), SendError> {
        self.shutdown()
    }
}
