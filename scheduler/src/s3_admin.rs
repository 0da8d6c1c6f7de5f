//! What an S3 bucket needs and `object_store` can't do: making it, and rules that clean up behind crashed workers.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint, CreateBucketConfiguration,
    ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
};
use framewake_proto::chain::Chain;
use std::time::Duration;
use tracing::{info, warn};

/// Days after which pieces of an upload that nobody finished are removed. The longest upload takes hours.
const UNFINISHED_DAYS: i32 = 2;
/// Days after which large outputs that never got their final name are removed.
const STAGING_DAYS: i32 = 2;
/// Where S3 lives when no region is named.
const REGION_DEFAULT: &str = "us-east-1";
const RULE_STAGING: &str = "framewake-staging";
const RULE_UNFINISHED: &str = "framewake-unfinished-uploads";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("can't make the bucket `{bucket}`: {reason}")]
    Make { bucket: String, reason: String },
    #[error("can't look at the bucket `{bucket}`: {reason}")]
    Look { bucket: String, reason: String },
    #[error("can't build the rules of the bucket")]
    Rules(#[from] aws_sdk_s3::error::BuildError),
}

/// The endpoint that the environment names, for servers that are not Amazon's.
#[allow(clippy::disallowed_methods)] // The same variables as object_store reads.
pub fn endpoint() -> Option<String> {
    ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].iter().find_map(|name| std::env::var(name).ok())
}

/// Makes the bucket, if it is missing, and its rules. The rules of others in the bucket stay.
pub async fn set_up(bucket: &str, prefix: &str) -> Result<(), Error> {
    let client = client().await;
    if !exists(&client, bucket).await? {
        make(&client, bucket).await?;
        info!(bucket, "bucket {bucket} made");
    }
    // Not every S3 server has lifecycle rules; without them only unfinished uploads stay, which costs room, not frames.
    if let Err(reason) = put_rules(&client, bucket, prefix).await? {
        warn!(bucket, reason, "bucket {bucket} has no lifecycle rules: what crashed workers leave stays in it");
    }
    Ok(())
}

async fn client() -> Client {
    let shared = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .timeout_config(TimeoutConfig::builder().operation_timeout(Duration::from_secs(30)).build())
        .load()
        .await;
    let mut config = aws_sdk_s3::config::Builder::from(&shared);
    if shared.region().is_none() {
        config = config.region(Region::from_static(REGION_DEFAULT));
    }
    if let Some(endpoint) = endpoint() {
        // Servers of one's own rarely have a name for each bucket.
        config = config.endpoint_url(endpoint).force_path_style(true);
    }
    Client::from_conf(config.build())
}

async fn exists(client: &Client, bucket: &str) -> Result<bool, Error> {
    match client.head_bucket().bucket(bucket).send().await {
        Ok(_) => Ok(true),
        Err(SdkError::ServiceError(error)) if error.err().is_not_found() || error.raw().status().as_u16() == 404 => {
            Ok(false)
        }
        Err(error) => Err(Error::Look { bucket: bucket.to_owned(), reason: said(&error) }),
    }
}

async fn make(client: &Client, bucket: &str) -> Result<(), Error> {
    let region = client.config().region().map_or(REGION_DEFAULT, Region::as_ref);
    // Amazon refuses its default region as a constraint.
    let place = (region != REGION_DEFAULT && endpoint().is_none()).then(|| {
        CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::from(region)).build()
    });
    match client.create_bucket().bucket(bucket).set_create_bucket_configuration(place).send().await {
        Ok(_) => Ok(()),
        // Another scheduler was faster.
        Err(SdkError::ServiceError(error)) if error.err().is_bucket_already_owned_by_you() => Ok(()),
        Err(error) => Err(Error::Make { bucket: bucket.to_owned(), reason: said(&error) }),
    }
}

/// The inner error is the server's refusal.
async fn put_rules(client: &Client, bucket: &str, prefix: &str) -> Result<Result<(), String>, Error> {
    let under = |folder: &str| if prefix.is_empty() { folder.to_owned() } else { format!("{prefix}/{folder}") };
    let mut rules = match client.get_bucket_lifecycle_configuration().bucket(bucket).send().await {
        Ok(found) => found.rules.unwrap_or_default(),
        Err(SdkError::ServiceError(error)) if error.raw().status().as_u16() == 404 => Vec::new(),
        Err(error) => return Ok(Err(said(&error))),
    };
    let (staging, unfinished) = (own_id(RULE_STAGING, prefix), own_id(RULE_UNFINISHED, prefix));
    rules.retain(|rule| rule.id() != Some(&staging) && rule.id() != Some(&unfinished));
    rules.push(
        LifecycleRule::builder()
            .id(staging)
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(under("staging/")).build())
            .expiration(LifecycleExpiration::builder().days(STAGING_DAYS).build())
            .build()?,
    );
    rules.push(
        LifecycleRule::builder()
            .id(unfinished)
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(under("")).build())
            .abort_incomplete_multipart_upload(
                AbortIncompleteMultipartUpload::builder().days_after_initiation(UNFINISHED_DAYS).build(),
            )
            .build()?,
    );
    let rules = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build()?;
    let put = client.put_bucket_lifecycle_configuration().bucket(bucket).lifecycle_configuration(rules);
    Ok(put.send().await.map(|_| ()).map_err(|error| said(&error)))
}

/// Several farms may share one bucket under different prefixes.
fn own_id(rule: &str, prefix: &str) -> String {
    if prefix.is_empty() { rule.to_owned() } else { format!("{rule}-{}", prefix.replace('/', "-")) }
}

/// What went wrong, on one line.
fn said<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> String {
    let SdkError::ServiceError(refusal) = error else { return Chain(error).to_string() };
    let status = refusal.raw().status().as_u16();
    let code = refusal.err().code().unwrap_or_default();
    let message = refusal.err().message().unwrap_or_default();
    let hint = match status {
        401 | 403 => "; look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and at what they may do",
        _ => "",
    };
    format!("the server answered {status} {code} {message}").trim_end().to_owned() + hint
}
