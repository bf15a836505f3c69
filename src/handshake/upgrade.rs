//! The answer to an opening handshake that handlers decide on (RFC 6455, 4.2.2).

use std::rc::Rc;
use std::time::SystemTime;

use super::fields::Fields;
use super::key::AcceptKey;
use super::refusal::Refusal;
use super::request::Request;
#[cfg(feature = "deflate")]
use crate::protocol::deflate::Agreement;
use crate::{AnswerError, HandshakeError};

/// A request to upgrade, and the answer that the server will give.
///
/// Initially, it accepts the request without a subprotocol.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// Shared with the connection, so that every handler can read it.
    request: Rc<Request>,
    /// The key of the acceptance, or the error of the request.
    accept: Result<AcceptKey, HandshakeError>,
    /// Always one that the client offered.
    subprotocol: Option<Box<str>>,
    #[cfg(feature = "deflate")]
    deflate: Option<Agreement>,
    fields: Fields,
    /// Always well-formed.
    refusal: Option<Refusal>,
    deferred: bool,
}

impl Upgrade {
    /// Creates an acceptance of the request with the key that its check returned.
    pub fn new(request: impl Into<Rc<Request>>, accept: AcceptKey) -> Self {
        Self::with(request.into(), Ok(accept))
    }

    /// Creates the value that handlers receive for a request that is not a valid opening handshake.
    pub(crate) fn of_bad(request: impl Into<Rc<Request>>, error: HandshakeError) -> Self {
        Self::with(request.into(), Err(error))
    }

    fn with(request: Rc<Request>, accept: Result<AcceptKey, HandshakeError>) -> Self {
        Self {
            request,
            accept,
            subprotocol: None,
            #[cfg(feature = "deflate")]
            deflate: None,
            fields: Fields::default(),
            refusal: None,
            deferred: false,
        }
    }

    /// Returns the error of a request that is not a valid opening handshake.
    ///
    /// The server refuses such a request with the error's status, whatever is set here. Handlers
    /// receive it only with [`Builder::bad_handshakes`](crate::Builder::bad_handshakes).
    pub fn error(&self) -> Option<HandshakeError> {
        self.accept.err()
    }

    /// Returns the request.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Returns the request by value.
    pub fn into_request(self) -> Request {
        Rc::unwrap_or_clone(self.request)
    }

    /// Returns the subprotocol that the 101 names.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Chooses the first of `supported` that the client offers, or none.
    pub fn choose_subprotocol<S: AsRef<str>>(&mut self, supported: &[S]) {
        // RFC 6455, 4.2.2: the value chosen "MUST be derived from the client's handshake,
        // specifically by selecting one of the values from the |Sec-WebSocket-Protocol| field that
        // the server is willing to use for this connection". The RFC leaves open whose order
        // decides: here it is the server's, which lists its newest version first.
        let chosen = supported
            .iter()
            .map(AsRef::as_ref)
            .find(|name| self.is_offered(name));
        self.subprotocol = chosen.map(Box::from);
    }

    /// Chooses this subprotocol.
    ///
    /// # Errors
    ///
    /// Returns [`AnswerError::SubprotocolNotOffered`], and changes nothing, if the client doesn't
    /// offer it.
    pub fn set_subprotocol(&mut self, name: &str) -> Result<(), AnswerError> {
        // RFC 6455, 4.1: a client that did not ask for it "MUST _Fail the WebSocket Connection_".
        if !self.is_offered(name) {
            return Err(AnswerError::SubprotocolNotOffered);
        }
        self.subprotocol = Some(name.into());
        Ok(())
    }

    /// Returns the negotiated compression (RFC 7692, 7.1), if any.
    #[cfg(feature = "deflate")]
    pub fn deflate(&self) -> Option<&Agreement> {
        self.deflate.as_ref()
    }

    /// Sets the negotiated compression: the result of
    /// [`DeflateConfig::negotiate`](crate::DeflateConfig::negotiate) for this request, or `None`
    /// for a connection without compression.
    #[cfg(feature = "deflate")]
    #[doc(alias = "no_deflate")]
    pub fn set_deflate(&mut self, agreed: Option<Agreement>) {
        self.deflate = agreed;
    }

    /// Appends a header to the 101; the same name may occur several times.
    ///
    /// # Errors
    ///
    /// Appends nothing, and returns [`AnswerError::BadHeader`] if the name is not a token or the
    /// value has control characters, and [`AnswerError::ReservedHeader`] if the header belongs to
    /// the handshake: `Upgrade`, `Connection`, `Content-Length`, `Transfer-Encoding` and
    /// `Sec-WebSocket-*`.
    #[doc(alias = "send_accept_response")]
    pub fn header(&mut self, name: &str, value: &str) -> Result<(), AnswerError> {
        self.fields.append(name, value)
    }

    /// Appends a cookie with this name, value and attributes to the 101:
    /// `cookie("id", "31d4d96e", "Path=/; HttpOnly; Secure; SameSite=Strict")`.
    ///
    /// # Errors
    ///
    /// Returns [`AnswerError::BadHeader`], and appends nothing, if a part has a byte that RFC 6265,
    /// 4.1.1 does not allow there.
    pub fn cookie(&mut self, name: &str, value: &str, attributes: &str) -> Result<(), AnswerError> {
        self.fields.append_cookie(name, value, attributes)
    }

    /// Accepts the upgrade, and removes a refusal. An upgrade is accepted without this call as
    /// well; it is for handlers whose other branches [refuse](Self::refuse).
    ///
    /// # Errors
    ///
    /// None; the type is that of the other answers.
    pub fn accept(&mut self) -> Result<(), AnswerError> {
        self.refusal = None;
        Ok(())
    }

    /// Refuses the upgrade with an HTTP response; the last refusal counts.
    ///
    /// # Errors
    ///
    /// Returns the fault that [`Refusal::check`] finds, and changes nothing then.
    #[doc(alias = "send_accept_error")]
    pub fn refuse(&mut self, refusal: impl Into<Refusal>) -> Result<(), AnswerError> {
        let refusal = refusal.into();
        refusal.check()?;
        self.refusal = Some(refusal);
        Ok(())
    }

    /// Defers the answer to a later call of [`Handle::answer`](crate::Handle::answer) or
    /// [`Connection::answer`](crate::Connection::answer) with the connection's
    /// [`id`](crate::Connection::id). A refusal still takes effect at once.
    ///
    /// Until then nothing more is read from the client. If no answer comes within
    /// `handshake_timeout`, it is a 503.
    ///
    /// # Errors
    ///
    /// None; the type is that of the other answers.
    pub fn defer(&mut self) -> Result<(), AnswerError> {
        self.deferred = true;
        Ok(())
    }

    /// Returns whether the answer is deferred.
    pub fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Revokes the deferral.
    pub(crate) fn resume(&mut self) {
        self.deferred = false;
    }

    /// Returns the refusal, if a handler gave one; it is then the answer instead of the 101.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Removes the refusal, so that the request is accepted.
    pub fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// Appends the answer to `out`: the response for the [`error`](Self::error) if there is one,
    /// else the [`refusal`](Self::refusal) if there is one, else the 101. `now` is for the `Date`
    /// header.
    pub fn encode(&self, now: SystemTime, out: &mut Vec<u8>) {
        let accept = match (&self.accept, &self.refusal) {
            (Err(error), _) => return Refusal::from(*error).encode(now, out),
            (_, Some(refusal)) => return refusal.encode(now, out),
            (Ok(accept), None) => accept,
        };
        out.extend_from_slice(SWITCHING);
        out.extend_from_slice(accept.as_str().as_bytes());
        out.extend_from_slice(b"\r\n");
        if let Some(name) = &self.subprotocol {
            out.extend_from_slice(b"Sec-WebSocket-Protocol: ");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        #[cfg(feature = "deflate")]
        if let Some(agreed) = &self.deflate {
            out.extend_from_slice(b"Sec-WebSocket-Extensions: ");
            out.extend_from_slice(agreed.to_string().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        self.fields.encode(out);
        out.extend_from_slice(b"\r\n");
    }

    fn is_offered(&self, name: &str) -> bool {
        self.request.subprotocols().any(|offered| offered == name)
    }
}

/// The 101 up to the value of `Sec-WebSocket-Accept`.
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: ";

#[cfg(test)]
mod tests {
    use super::super::samples::{SAMPLE, altered, request};
    use super::*;

    fn upgrade(request: Request) -> Upgrade {
        let accept = request.accept_key().unwrap();
        Upgrade::new(request, accept)
    }

    fn encoded(upgrade: &Upgrade) -> String {
        let mut out = Vec::new();
        upgrade.encode(SystemTime::UNIX_EPOCH, &mut out);
        String::from_utf8(out).unwrap()
    }

    const PLAIN: &str = "HTTP/1.1 101 Switching Protocols\r\n\
        Upgrade: websocket\r\n\
        Connection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    #[test]
    fn sample_of_the_rfc() {
        let mut upgrade = upgrade(request(SAMPLE));
        assert_eq!(encoded(&upgrade), format!("{PLAIN}\r\n"));
        upgrade.choose_subprotocol(&["chat"]);
        assert_eq!(
            encoded(&upgrade),
            format!("{PLAIN}Sec-WebSocket-Protocol: chat\r\n\r\n")
        );
        assert_eq!(upgrade.into_request().path(), "/chat");
    }

    #[test]
    fn subprotocols_follow_the_server() {
        let mut upgrade = upgrade(request(SAMPLE));
        upgrade.choose_subprotocol(&["mqtt", "superchat", "chat"]);
        assert_eq!(upgrade.subprotocol(), Some("superchat"));
        for name in ["mqtt", "chat, superchat"] {
            let set = upgrade.set_subprotocol(name);
            assert_eq!(set, Err(AnswerError::SubprotocolNotOffered));
        }
        assert_eq!(upgrade.subprotocol(), Some("superchat"));
        assert_eq!(upgrade.set_subprotocol("chat"), Ok(()));
        assert_eq!(upgrade.subprotocol(), Some("chat"));
        upgrade.choose_subprotocol(&["mqtt", "Chat", ""]);
        assert_eq!(upgrade.subprotocol(), None);
        upgrade.choose_subprotocol::<String>(&[]);
        assert_eq!(upgrade.subprotocol(), None);
    }

    #[test]
    fn nothing_is_chosen_that_was_not_offered() {
        let mut upgrade = upgrade(altered("Sec-WebSocket-Protocol: chat, superchat\r\n", ""));
        upgrade.choose_subprotocol(&["chat"]);
        assert_eq!(upgrade.subprotocol(), None);
        assert_eq!(
            upgrade.set_subprotocol("chat"),
            Err(AnswerError::SubprotocolNotOffered)
        );
    }

    #[test]
    fn headers_are_added_or_refused() {
        let mut upgrade = upgrade(request(SAMPLE));
        upgrade.header("Set-Cookie", "a=1").unwrap();
        upgrade.header("Set-Cookie", "b=2").unwrap();
        assert_eq!(
            upgrade.header("X", "a\r\nY: b"),
            Err(AnswerError::BadHeader)
        );
        assert_eq!(
            upgrade.header("Sec-WebSocket-Accept", "x"),
            Err(AnswerError::ReservedHeader)
        );
        let expected = format!("{PLAIN}Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n");
        assert_eq!(encoded(&upgrade), expected);
    }

    #[test]
    fn refusals_are_well_formed() {
        let mut upgrade = upgrade(request(SAMPLE));
        assert_eq!(upgrade.refuse(200), Err(AnswerError::BadStatus));
        assert!(upgrade.refusal().is_none());
        upgrade.refuse(403).unwrap();
        assert_eq!(
            upgrade.refuse(Refusal::new(404).reason("a\nb")),
            Err(AnswerError::BadReason)
        );
        assert_eq!(
            upgrade.refusal().map(Refusal::status),
            Some(http::StatusCode::FORBIDDEN)
        );
        assert!(upgrade.take_refusal().is_some());
        assert!(upgrade.refusal().is_none());
    }

    #[test]
    fn a_refusal_is_the_answer() {
        let mut refused = upgrade(request(SAMPLE));
        refused.refuse(403).unwrap();
        assert!(encoded(&refused).starts_with("HTTP/1.1 403 Forbidden\r\n"));
        refused.accept().unwrap();
        assert!(encoded(&refused).starts_with("HTTP/1.1 101 "));
    }
}
