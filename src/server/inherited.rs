//! Listening sockets that the process inherited when it was started (sd_listen_fds(3)).

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process;
use std::sync::{Mutex, PoisonError};

use listenfd::ListenFd;

/// An inherited socket of a known kind, which may not be listening.
pub(super) enum Inherited {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The inherited sockets, from the first use on. All servers share them, because a descriptor must
/// not have two owners.
static HANDED: Mutex<Option<Handed>> = Mutex::new(None);

struct Handed {
    sockets: ListenFd,
    /// The name of each socket; `None` once it is taken.
    names: Vec<Option<String>>,
}

/// Takes the sockets with this name, or all that are left.
///
/// # Errors
///
/// Returns an error if there are no sockets, they are meant for another process, or one is not a
/// stream socket. Its text is for the person who started the process.
pub(super) fn take(name: Option<&str>) -> io::Result<Vec<Inherited>> {
    let mut handed = HANDED.lock().unwrap_or_else(PoisonError::into_inner);
    if handed.is_none() {
        let names = announced(|name| env::var_os(name), process::id())?;
        *handed = Some(Handed {
            sockets: ListenFd::from_env(),
            names: names.into_iter().map(Some).collect(),
        });
    }
    let Some(Handed { sockets, names }) = &mut *handed else {
        return Ok(Vec::new());
    };
    let wanted: Vec<usize> = (0..names.len())
        .filter(|at| match (&names[*at], name) {
            (Some(has), Some(wanted)) => has == wanted,
            (has, _) => has.is_some(),
        })
        .collect();
    if wanted.is_empty() {
        let left: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
        return Err(match left.is_empty() {
            true => none("all of them are in use already"),
            false => none(format_args!(
                "none has that name; the unused ones are named {left:?}"
            )),
        });
    }
    wanted
        .into_iter()
        .map(|at| {
            let socket = open(sockets, at)?;
            let name = names[at].take().unwrap_or_default();
            socket.ok_or_else(|| {
                wrong(format_args!(
                    "socket {at}, named {name:?}, is not a TCP or Unix stream socket"
                ))
            })
        })
        .collect()
}

/// Makes a listener of a descriptor; `None` if it is not a stream socket.
fn open(sockets: &mut ListenFd, at: usize) -> io::Result<Option<Inherited>> {
    // A failed attempt leaves the descriptor in place.
    match sockets.take_tcp_listener(at) {
        Ok(socket) => Ok(socket.map(Inherited::Tcp)),
        Err(_) => match sockets.take_unix_listener(at) {
            Ok(socket) => Ok(socket.map(Inherited::Unix)),
            Err(_) => Ok(None),
        },
    }
}

/// Returns the names of the sockets that the environment passes to the process `pid`.
fn announced(var: impl Fn(&str) -> Option<OsString>, pid: u32) -> io::Result<Vec<String>> {
    let var = |name| var(name).filter(|value| !value.is_empty());
    let Some(count) = var("LISTEN_FDS") else {
        return Err(none("LISTEN_FDS is not set"));
    };
    if let Some(receiver) = var("LISTEN_PID")
        && receiver.to_str().and_then(|id| id.parse().ok()) != Some(pid)
    {
        return Err(none(format_args!(
            "LISTEN_PID is {}, but this is process {pid}",
            receiver.display()
        )));
    }
    let count = match count.to_str().and_then(|count| count.parse().ok()) {
        Some(0) => return Err(none("LISTEN_FDS is 0")),
        Some(count) if count <= SOCKETS_MAX => count,
        _ => {
            return Err(wrong(format_args!(
                "LISTEN_FDS is not a number up to {SOCKETS_MAX}"
            )));
        }
    };
    let Some(names) = var("LISTEN_FDNAMES") else {
        return Ok(vec!["unknown".to_owned(); count]);
    };
    let names: Vec<String> = names
        .to_string_lossy()
        .split(':')
        .map(str::to_owned)
        .collect();
    if names.len() != count {
        return Err(wrong(format_args!(
            "LISTEN_FDNAMES has {} names for {count} sockets",
            names.len()
        )));
    }
    Ok(names)
}

fn none(why: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, why.to_string())
}

fn wrong(why: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.to_string())
}

/// More sockets than any service manager passes, and little memory.
const SOCKETS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names that these environment variables pass to process 42.
    fn told(vars: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let var = |name: &str| {
            let found = vars.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        announced(var, 42).map_err(|error| error.to_string())
    }

    #[test]
    fn an_environment_announces_its_sockets() {
        let pid = ("LISTEN_PID", "42");
        assert_eq!(told(&[("LISTEN_FDS", "2"), pid]).unwrap(), ["unknown"; 2]);
        assert_eq!(told(&[("LISTEN_FDS", "1")]).unwrap(), ["unknown"]);
        assert_eq!(
            told(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "")]).unwrap(),
            ["unknown"]
        );
        let names = ("LISTEN_FDNAMES", "web:web:admin");
        assert_eq!(
            told(&[("LISTEN_FDS", "3"), pid, names]).unwrap(),
            ["web", "web", "admin"]
        );
        let most = told(&[("LISTEN_FDS", "1024"), pid]).unwrap();
        assert_eq!(most.len(), 1024);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let pid = ("LISTEN_PID", "42");
        for (vars, named) in [
            (&[pid][..], "LISTEN_FDS is not set"),
            (&[("LISTEN_FDS", ""), pid], "LISTEN_FDS is not set"),
            (&[("LISTEN_FDS", "0"), pid], "LISTEN_FDS is 0"),
            (&[("LISTEN_FDS", "-1"), pid], "not a number"),
            (&[("LISTEN_FDS", "1025"), pid], "not a number up to 1024"),
            (&[("LISTEN_FDS", "two"), pid], "not a number"),
            (
                &[("LISTEN_FDS", "1"), ("LISTEN_PID", "43")],
                "LISTEN_PID is 43, but this is process 42",
            ),
            (
                &[("LISTEN_FDS", "1"), ("LISTEN_PID", "42x")],
                "LISTEN_PID is 42x",
            ),
            (
                &[("LISTEN_FDS", "3"), pid, ("LISTEN_FDNAMES", "a:b")],
                "LISTEN_FDNAMES has 2 names for 3 sockets",
            ),
            (
                &[("LISTEN_FDS", "1"), pid, ("LISTEN_FDNAMES", "a:b")],
                "LISTEN_FDNAMES has 2 names for 1 sockets",
            ),
        ] {
            let error = told(vars).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
