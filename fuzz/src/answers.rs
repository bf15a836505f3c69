//! HTTP responses from a client's point of view.

/// The parsed head of a response, and its size.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: String,
    /// The names and values, in order.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) size: usize,
}

impl Answer {
    /// Parses a head, which must be valid and complete.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self::try_parse(bytes).expect("the head of the answer is whole")
    }

    /// Parses a head, which must be valid but may be incomplete.
    pub(crate) fn try_parse(bytes: &[u8]) -> Option<Self> {
        let mut places = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut places);
        let status = parsed.parse(bytes).expect("the answer is HTTP");
        let httparse::Status::Complete(size) = status else {
            return None;
        };
        let head = &bytes[..size];
        for (at, byte) in head.iter().enumerate() {
            match byte {
                b'\n' => assert_eq!(head[at - 1], b'\r', "a bare LF"),
                b'\r' => assert_eq!(head[at + 1], b'\n', "a bare CR"),
                b'\t' => {}
                byte => assert!(!byte.is_ascii_control(), "control character {byte}"),
            }
        }
        let fields = parsed.headers.iter();
        Some(Self {
            status: parsed.code.expect("it is complete"),
            reason: parsed.reason.unwrap_or_default().to_owned(),
            fields: fields
                .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
                .collect(),
            size,
        })
    }

    /// Returns the values of all fields with a name in lower case.
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        let fields = self.fields.iter().filter(|field| field.0 == name);
        fields.map(|field| &field.1[..]).collect()
    }

    /// Returns the value of the only field with a name.
    pub(crate) fn value(&self, name: &str) -> &[u8] {
        let values = self.values(name);
        assert_eq!(values.len(), 1, "{name}");
        values[0]
    }

    /// Returns the `Content-Length`, if there is one.
    pub(crate) fn length(&self) -> Option<usize> {
        let values = self.values("content-length");
        assert!(values.len() < 2, "two lengths");
        let value = std::str::from_utf8(values.first()?).expect("digits");
        Some(value.parse().expect("a number"))
    }
}

/// Returns a value as a parser does, without surrounding white space.
pub(crate) fn trimmed(value: &str) -> &[u8] {
    value.trim_matches([' ', '\t']).as_bytes()
}
