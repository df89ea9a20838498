use super::*;

fn server(settings: &str) -> Arc<Server> {
    let group = format!("g=127.0.0.1:1;{settings}");
    let group: netwasm_base::config::UpstreamGroup = group.parse().expect("a group");
    let endpoint = Endpoint::named("127.0.0.1".to_owned(), 1);
    let counters = Arc::default();
    Arc::new(Server::of_group(
        &Arc::from("g"),
        endpoint,
        None,
        1,
        &group.settings,
        &counters,
    ))
}

#[tokio::test]
async fn a_request_waits_for_a_place_and_gets_it() {
    let server = server("max-connections=1;max-queue=1");
    let first = server.try_enter(&mut None).expect("a place");
    assert!(server.try_enter(&mut None).is_none());
    let mut second = Box::pin(Arc::clone(&server).enter(None));
    let poll = futures_poll(&mut second);
    assert!(poll.is_pending());
    assert_eq!(
        Arc::clone(&server).enter(None).await.err(),
        Some(NoPlace::QueueFull)
    );
    drop(first);
    assert!(second.await.is_ok());
    assert_eq!(server.active(), 0);
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut cx)
}

#[tokio::test]
async fn a_request_waits_no_longer_than_it_may() {
    let server = server("max-connections=1;queue-timeout=1ms");
    let _first = server.try_enter(&mut None).expect("a place");
    assert_eq!(
        Arc::clone(&server).enter(None).await.err(),
        Some(NoPlace::Timeout)
    );
}
