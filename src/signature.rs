//! Ed25519 signatures of documents, as DSSE envelopes. Keys are PEM files (PKCS #8), which openssl reads and writes, too.
//!
//! <https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The type of a JSON document that is an in-toto statement.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// A key that signs. Its secret is never printed.
pub struct Secret(SigningKey);

/// A key that signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public(VerifyingKey);

/// A signed document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload_type: String,
    /// Base64.
    payload: String,
    signatures: Vec<Signed>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Signed {
    /// A hint: which key to try.
    keyid: String,
    /// Base64.
    sig: String,
}

/// What the signatures of an envelope are worth.
#[derive(Debug, Clone, PartialEq)]
pub enum Opened {
    /// Signed by the trusted key of this id.
    Trusted { key: String, statement: Value },
    /// No trusted key signed it; these say that they did.
    Untrusted { keys: Vec<String> },
    /// It is no envelope, or a trusted key's signature is not of these bytes.
    Broken { why: String },
}

impl Secret {
    /// Makes a new key.
    pub fn generate() -> std::io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|e| std::io::Error::other(format!("no random numbers: {e}")))?;
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    /// Reads a PEM file's text.
    pub fn from_pem(text: &str) -> Result<Self, String> {
        SigningKey::from_pkcs8_pem(text)
            .map(Self)
            .map_err(|e| format!("is not an Ed25519 private key (PKCS #8, PEM): {e}"))
    }

    /// The PEM text. Whoever holds it can sign.
    pub fn to_pem(&self) -> String {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF).expect("32 bytes have a PEM form");
        pem.as_str().to_owned()
    }

    pub fn public(&self) -> Public {
        Public(self.0.verifying_key())
    }

    /// Signs a statement.
    pub fn sign(&self, statement: &Value) -> Envelope {
        self.sign_bytes(STATEMENT, &serde_json::to_vec(statement).expect("plain data"))
    }

    /// Signs bytes of a type.
    pub fn sign_bytes(&self, payload_type: &str, payload: &[u8]) -> Envelope {
        let sig = BASE64.encode(self.0.sign(&to_be_signed(payload_type, payload)).to_bytes());
        Envelope {
            signatures: vec![Signed { keyid: self.public().id(), sig }],
            ..Envelope::unsigned(payload_type, payload)
        }
    }
}

impl Public {
    pub fn from_pem(text: &str) -> Result<Self, String> {
        VerifyingKey::from_public_key_pem(text)
            .map(Self)
            .map_err(|e| format!("is not an Ed25519 public key (SPKI, PEM): {e}"))
    }

    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).expect("32 bytes have a PEM form")
    }

    /// The SHA-256 of the key's DER form, in hex.
    pub fn id(&self) -> String {
        let der = self.0.to_public_key_der().expect("32 bytes have a DER form");
        Sha256::digest(der.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Bytes that came in an envelope, and who vouches for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub bytes: Vec<u8>,
    /// The id of the trusted key that signed them.
    pub trusted: Option<String>,
    /// Ids of the keys that say that they signed them.
    pub keys: Vec<String>,
}

impl Envelope {
    /// Bytes that nobody vouches for.
    pub fn unsigned(payload_type: &str, payload: &[u8]) -> Self {
        Self { payload_type: payload_type.to_owned(), payload: BASE64.encode(payload), signatures: Vec::new() }
    }
}

/// Takes the bytes out of an envelope of this type, and checks its signatures against the keys that one trusts; an error
/// says what is wrong with it.
pub fn content(text: &[u8], payload_type: &str, trusted: &[Public]) -> Result<Content, &'static str> {
    let envelope: Envelope = serde_json::from_slice(text).map_err(|_| "is no signed envelope")?;
    let bytes = BASE64.decode(&envelope.payload).map_err(|_| "its payload is not base64")?;
    let message = to_be_signed(&envelope.payload_type, &bytes);
    let mut by = None;
    for Signed { keyid, sig } in &envelope.signatures {
        let signature = BASE64.decode(sig).ok().and_then(|sig| Signature::from_slice(&sig).ok());
        let signature = signature.ok_or("holds a signature that is none")?;
        by = trusted.iter().find(|key| key.0.verify_strict(&message, &signature).is_ok()).map(Public::id);
        if by.is_some() {
            break;
        }
        if trusted.iter().any(|key| key.id() == *keyid) {
            return Err("was changed after it was signed: the signature does not match");
        }
    }
    if envelope.payload_type != payload_type {
        return Err("holds a document of another kind");
    }
    Ok(Content { bytes, trusted: by, keys: envelope.signatures.into_iter().map(|signed| signed.keyid).collect() })
}

/// Checks the signatures of a statement against the keys that one trusts.
pub fn open(text: &[u8], trusted: &[Public]) -> Opened {
    let broken = |why: &str| Opened::Broken { why: why.to_owned() };
    match content(text, STATEMENT, trusted) {
        Err(why) => broken(why),
        Ok(Content { bytes, trusted: Some(key), .. }) => match serde_json::from_slice(&bytes) {
            Ok(statement) => Opened::Trusted { key, statement },
            Err(_) => broken("what was signed is no in-toto statement"),
        },
        Ok(Content { keys, .. }) => Opened::Untrusted { keys },
    }
}

/// DSSE's pre-authentication encoding: the type and the bytes, each with its length.
fn to_be_signed(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(seed: u8) -> Secret {
        Secret(SigningKey::from_bytes(&[seed; 32]))
    }

    #[test]
    fn what_is_signed_has_the_form_of_the_standard() {
        assert_eq!(
            to_be_signed("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn a_key_survives_its_file_and_a_statement_its_envelope() {
        let secret = Secret::from_pem(&key(1).to_pem()).expect("as written");
        let public = Public::from_pem(&key(1).public().to_pem()).expect("as written");
        assert!(key(1).to_pem().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let statement = json!({ "subject": "é" });
        let text = serde_json::to_vec(&secret.sign(&statement)).expect("plain");
        assert_eq!(open(&text, &[key(2).public(), public.clone()]), Opened::Trusted { key: public.id(), statement });
        assert_eq!(open(&text, &[key(2).public()]), Opened::Untrusted { keys: vec![public.id()] });
        assert!(Secret::from_pem(&public.to_pem()).is_err() && Public::from_pem("x").is_err());
    }

    #[test]
    fn a_document_of_one_kind_does_not_pass_for_another() {
        let text = serde_json::to_vec(&key(1).sign_bytes("a/b", b"bytes")).expect("plain");
        let trusted = [key(1).public()];
        let opened = content(&text, "a/b", &trusted).expect("as signed");
        assert_eq!((opened.bytes.as_slice(), opened.trusted), (&b"bytes"[..], Some(key(1).public().id())));
        assert_eq!(content(&text, "a/c", &trusted), Err("holds a document of another kind"));
        let unsigned = serde_json::to_vec(&Envelope::unsigned("a/b", b"bytes")).expect("plain");
        assert_eq!(content(&unsigned, "a/b", &trusted).expect("it has a form").trusted, None);
    }

    #[test]
    fn a_changed_payload_type_or_signature_is_refused() {
        let envelope = key(1).sign(&json!({ "a": 1 }));
        let trusted = [key(1).public()];
        let changed = [
            Envelope { payload: BASE64.encode(r#"{"a":2}"#), ..envelope.clone() },
            Envelope { payload_type: "text/plain".into(), ..envelope.clone() },
            Envelope { payload: "é".into(), ..envelope.clone() },
        ];
        for changed in changed {
            let text = serde_json::to_vec(&changed).expect("plain");
            assert!(matches!(open(&text, &trusted), Opened::Broken { .. }), "{changed:?}");
        }
        assert!(matches!(open(b"{}", &trusted), Opened::Broken { .. }));
    }
}
