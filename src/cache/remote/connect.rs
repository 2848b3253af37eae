//! Opens the stores: where each kind finds its server and its credentials.

use super::address::{Address, Kind};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use std::sync::Arc;

/// An open store.
pub struct Opened {
    pub objects: Arc<dyn ObjectStore>,
    /// The same, where an upload in parts is a thing of its own, which outlives who began it.
    pub uploads: Option<Arc<dyn MultipartStore>>,
    /// Under which all names begin.
    pub prefix: Path,
    /// Whether several pieces of a name come quicker than one stream.
    pub gives_pieces: bool,
}

pub fn connect(address: &Address) -> Result<Opened, String> {
    match &address.kind {
        Kind::Folder(folder) => {
            if !folder.is_dir() {
                return Err(format!("there is no folder {address}: make it, or mount what it stands for"));
            }
            let store = LocalFileSystem::new_with_prefix(folder).map_err(|e| format!("can't use {address}: {e}"))?;
            let objects = Arc::new(store.with_fsync(true));
            Ok(Opened { objects, uploads: None, prefix: Path::default(), gives_pieces: false })
        }
        #[cfg(feature = "remote")]
        _ => network::connect(address),
        #[cfg(not(feature = "remote"))]
        _ => Err(format!(
            "this program was built without the feature `remote`: of {address} and the like it knows nothing"
        )),
    }
}

#[cfg(feature = "remote")]
mod network {
    use super::{Address, Arc, Kind, MultipartStore, ObjectStore, Opened, Path};
    use crate::cache::remote::aws_files;
    use object_store::client::{HttpClient, HttpConnector};
    use object_store::{BackoffConfig, ClientOptions, RetryConfig};
    use std::time::Duration;

    /// A failure is tried again for so long: what is left of the time for an answer goes to the answer.
    const RETRIES: Duration = Duration::from_secs(12);
    /// A server says nothing while a part is on its way to it: eight of 8 MiB at once, over a line of 5 Mbit/s, take so long.
    /// Questions have shorter times of their own.
    const SILENCE: Duration = Duration::from_secs(120);

    pub fn connect(address: &Address) -> Result<Opened, String> {
        // Another part of the program may have done so; both choose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let opened = match &address.kind {
            Kind::S3(bucket) => {
                let builder = object_store::aws::AmazonS3Builder::from_env().with_bucket_name(&bucket.name);
                let builder = aws_files::settings().into_iter().fold(builder, |builder, (name, value)| {
                    name.parse().map_or(builder.clone(), |key| builder.with_config(key, value))
                });
                let built = builder.with_retry(retries()).with_http_connector(Connector).build();
                built.map(|store| in_parts(store, &bucket.prefix))
            }
            Kind::Gcs(bucket) => {
                let builder = object_store::gcp::GoogleCloudStorageBuilder::from_env().with_bucket_name(&bucket.name);
                let built = builder.with_retry(retries()).with_http_connector(Connector).build();
                built.map(|store| in_parts(store, &bucket.prefix))
            }
            Kind::Azure(bucket) => {
                let builder = object_store::azure::MicrosoftAzureBuilder::from_env().with_container_name(&bucket.name);
                let built = builder.with_retry(retries()).with_http_connector(Connector).build();
                built.map(|store| in_parts(store, &bucket.prefix))
            }
            Kind::Web => {
                let builder = object_store::http::HttpBuilder::new().with_url(address.to_string());
                let built = builder.with_retry(retries()).with_http_connector(Connector).build();
                built.map(|store| Opened {
                    objects: Arc::new(store),
                    uploads: None,
                    prefix: Path::default(),
                    gives_pieces: true,
                })
            }
            Kind::Folder(_) => unreachable!("the caller opens folders"),
        };
        opened.map_err(|error| format!("can't use {address}: {error}"))
    }

    fn in_parts<T: ObjectStore + MultipartStore>(store: T, prefix: &str) -> Opened {
        let store = Arc::new(store);
        Opened {
            objects: Arc::clone(&store) as _,
            uploads: Some(store),
            prefix: Path::from(prefix),
            gives_pieces: true,
        }
    }

    fn retries() -> RetryConfig {
        let backoff =
            BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(3), base: 2.0 };
        RetryConfig { backoff, max_retries: 4, retry_timeout: RETRIES }
    }

    /// Makes the client that speaks HTTP.
    #[derive(Debug)]
    struct Connector;

    impl HttpConnector for Connector {
        fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
            // To another host neither bytes nor questions follow.
            let same_host = reqwest::redirect::Policy::custom(|attempt| {
                let first = attempt.previous().first().map(|url| (url.host_str().map(str::to_owned), url.port()));
                let there = (attempt.url().host_str().map(str::to_owned), attempt.url().port());
                if first == Some(there) && attempt.previous().len() < 5 { attempt.follow() } else { attempt.stop() }
            });
            let client = reqwest::Client::builder()
                .redirect(same_host)
                .connect_timeout(Duration::from_secs(5))
                .read_timeout(SILENCE)
                .user_agent(concat!("cistage/", env!("CARGO_PKG_VERSION")))
                .build();
            let client =
                client.map_err(|source| object_store::Error::Generic { store: "HTTP", source: source.into() })?;
            Ok(HttpClient::new(client))
        }
    }
}
