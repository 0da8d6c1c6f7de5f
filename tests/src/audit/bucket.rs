//! The store as an auditor sees it: by its list and by its objects, past every proxy.

use crate::farm::{Store, TestFarm};
use crate::parts::{S3_KEY, S3_SECRET};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub struct Bucket {
    objects: Arc<dyn ObjectStore>,
}

impl Bucket {
    pub fn of(farm: &TestFarm) -> Bucket {
        let objects: Arc<dyn ObjectStore> = match &farm.store {
            Store::Folder => Arc::new(LocalFileSystem::new_with_prefix(farm.store_folder()).expect("it is there")),
            Store::S3(s3) => {
                let url = farm.store_url();
                let (bucket, prefix) = url.trim_start_matches("s3://").split_once('/').expect("a bucket and a prefix");
                let builder = AmazonS3Builder::new()
                    .with_endpoint(s3.endpoint())
                    .with_allow_http(true)
                    .with_access_key_id(S3_KEY)
                    .with_secret_access_key(S3_SECRET)
                    .with_region("us-east-1")
                    .with_bucket_name(bucket);
                Arc::new(PrefixStore::new(builder.build().expect("good settings"), prefix))
            }
        };
        Bucket { objects }
    }

    /// Every key with its size.
    pub async fn list(&self) -> Result<BTreeMap<String, u64>> {
        self.objects.list(None).map_ok(|meta| (meta.location.to_string(), meta.size)).try_collect().await
    }

    pub async fn get(&self, key: &str) -> Result<Bytes> {
        self.objects.get(&Key::parse(key)?).await?.bytes().await
    }

    /// For planted faults.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        self.objects.put(&Key::parse(key)?, bytes.into()).await.map(drop)
    }

    /// For planted faults.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.objects.delete(&Key::parse(key)?).await
    }
}
