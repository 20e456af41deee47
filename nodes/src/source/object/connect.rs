//! From a place to a client of its store, as the environment describes it.

use crate::source::{ObjectPlace, ObjectSettings, Problem, Service};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder, http::HttpBuilder,
};
use schema::Text;
use std::{sync::Arc, time::Duration};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a question is asked again that a server cannot answer at the moment.
const RETRIES: usize = 2;

/// A store by its builder: the builders have the same methods and no trait for them.
macro_rules! build {
    ($builder:ty, $with_bucket:ident, $place:ident, $settings:ident, $client:ident, $retry:ident) => {{
        let mut builder = <$builder>::new()
            .with_client_options($client)
            .with_retry($retry);
        for (name, value) in ours($place.service, $settings) {
            // What the store does not know of is another program's.
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value.expose());
            }
        }
        let built = builder.$with_bucket(&$place.bucket).build();
        built.map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
    }};
}

/// A client of the store of `place`. Asks nobody yet.
pub(super) fn connect(
    place: &ObjectPlace,
    settings: &ObjectSettings,
) -> Result<Arc<dyn ObjectStore>, Problem> {
    crate::http_client::choose_cryptography();
    let client = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        // A large file takes as long as it takes; silence is what ends it.
        .with_timeout_disabled()
        .with_allow_http(is_plain(place.service, settings));
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: settings.retry_pause,
            max_backoff: 8 * settings.retry_pause,
            base: 2.0,
        },
        max_retries: RETRIES,
        ..RetryConfig::default()
    };
    let store: object_store::Result<Arc<dyn ObjectStore>> = match place.service {
        Service::S3 => build!(
            AmazonS3Builder,
            with_bucket_name,
            place,
            settings,
            client,
            retry
        ),
        Service::Gs => build!(
            GoogleCloudStorageBuilder,
            with_bucket_name,
            place,
            settings,
            client,
            retry
        ),
        Service::Az => build!(
            MicrosoftAzureBuilder,
            with_container_name,
            place,
            settings,
            client,
            retry
        ),
        Service::Https => https(place, client, retry),
    };
    // Its text may hold what the environment says, so that it is not repeated.
    store.map_err(|error| Problem::Malformed {
        reason: format!(
            "the {} variables of the environment make no sense together{}",
            prefix(place.service),
            reason(&error)
        ),
    })
}

fn https(
    place: &ObjectPlace,
    client: ClientOptions,
    retry: RetryConfig,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    let query = place
        .query
        .as_ref()
        .map_or(String::new(), |query| format!("?{}", query.expose()));
    let builder = HttpBuilder::new().with_url(format!("https://{}/{query}", place.bucket));
    let built = builder.with_client_options(client).with_retry(retry);
    Ok(Arc::new(built.build()?))
}

/// The variables that are about a service.
fn ours(service: Service, settings: &ObjectSettings) -> impl Iterator<Item = (&str, &Text)> {
    let variables = settings.variables.iter();
    let ours = variables.filter(move |(name, _)| name.starts_with(prefix(service)));
    ours.map(|(name, value)| (name.as_str(), value))
}

fn prefix(service: Service) -> &'static str {
    match service {
        Service::S3 => "AWS_",
        Service::Gs => "GOOGLE_",
        Service::Az => "AZURE_",
        Service::Https => "HTTPS_",
    }
}

/// Where the environment says that a service is, if it says so: a store of one's own.
pub(super) fn endpoint(service: Service, settings: &ObjectSettings) -> Option<&str> {
    let names: &[&str] = match service {
        Service::S3 => &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"],
        Service::Gs => &["GOOGLE_BASE_URL"],
        Service::Az => &["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"],
        Service::Https => &[],
    };
    let value = |name: &&str| {
        let mut variables = settings.variables.iter();
        let found = variables.find(|(known, _)| known == name);
        found.map(|(_, value)| value.expose())
    };
    names.iter().find_map(value)
}

/// Which account a container belongs to, which its name alone does not say.
pub(super) fn account(service: Service, settings: &ObjectSettings) -> Option<&str> {
    let mut variables = settings.variables.iter();
    let account = variables.find(|(name, _)| name == "AZURE_STORAGE_ACCOUNT_NAME");
    let account = account.filter(|_| service == Service::Az);
    account.map(|(_, value)| value.expose())
}

/// Whether the environment says whom the store takes us for.
pub(super) fn is_signed(service: Service, settings: &ObjectSettings) -> bool {
    let names: &[&str] = match service {
        Service::S3 => &[
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_",
        ],
        Service::Gs => &[
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_BEARER",
        ],
        Service::Az => &[
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_SAS",
            "AZURE_CLIENT_SECRET",
            "AZURE_FEDERATED",
        ],
        Service::Https => &[],
    };
    let mut variables = settings.variables.iter();
    variables.any(|(name, _)| names.iter().any(|known| name.starts_with(known)))
}

/// Whether the environment names an address without TLS, as stores on one's own machine have.
fn is_plain(service: Service, settings: &ObjectSettings) -> bool {
    endpoint(service, settings).is_some_and(|endpoint| endpoint.starts_with("http://"))
        || ours(service, settings).any(|(name, value)| {
            name.ends_with("_ALLOW_HTTP") && value.expose().eq_ignore_ascii_case("true")
        })
}

fn reason(error: &object_store::Error) -> &'static str {
    let text = error.to_string();
    let known = [
        ("Missing AccessKeyId", ": AWS_ACCESS_KEY_ID is missing"),
        (
            "Missing SecretAccessKey",
            ": AWS_SECRET_ACCESS_KEY is missing",
        ),
        (
            "Account must be specified",
            ": AZURE_STORAGE_ACCOUNT_NAME is missing",
        ),
        (
            "Unable to open service account file",
            ": the file of the service account cannot be read",
        ),
        (
            "Unable to decode service account file",
            ": the file of the service account is none",
        ),
    ];
    let found = known.iter().find(|(said, _)| text.contains(said));
    found.map_or("", |(_, reason)| reason)
}
