//! Uses the interfaces of Spin 4 as its arguments say, and prints what came of it:
//! for tests. `-- BUCKET VARIABLE`
wit_bindgen::generate!({
    path: "wit",
    world: "netwasm:spin-probe/interfaces",
    generate_all,
});

use spin::key_value::key_value::{Error, Store};
use spin::variables::variables;
use wasip3::cli::environment;
use wasip3::exports::cli::run::Guest;

struct Probe;
wasip3::cli::command::export!(Probe);

impl Guest for Probe {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let [_, bucket, variable] = &*arguments else {
            return Err(());
        };
        println!("{:?}", variables::get(variable.clone()).await);
        match store(bucket).await {
            Ok(()) => Ok(()),
            Err(error) => {
                println!("{error:?}");
                Err(())
            }
        }
    }
}

/// Uses a bucket in which there are no keys yet.
async fn store(bucket: &str) -> Result<(), Error> {
    let store = Store::open(bucket.to_owned()).await?;
    for key in ["one", "two", "three"] {
        store.set(key.to_owned(), key.into()).await?;
    }
    store.delete("two".to_owned()).await?;
    let found = store.get("one".to_owned()).await?;
    let found = found.map(String::from_utf8);
    println!("{found:?} {:?}", store.get("two".to_owned()).await?);
    println!("{}", store.exists("three".to_owned()).await?);
    let (keys, ended) = store.get_keys().await;
    let mut keys = keys.collect().await;
    keys.sort();
    println!("{keys:?} {:?}", ended.await);
    Ok(())
}
