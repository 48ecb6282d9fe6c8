//! What a connection does when memory runs short.

use std::future::poll_fn;
use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::connections::Connections;

/// A connection of a client, and that client.
async fn accepted(connections: &Connections) -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let info = ConnectionInfo::new(ListenerKey::tcp(address), Scheme::Http, peer, None, None, connections.open());
    let connection = Connection::new(Transport::plain(stream), info, Limits::of(&Settings::default())).unwrap();
    (connection, client)
}

/// Writes until nothing more is taken.
async fn fill(connection: &mut Connection) {
    poll_fn(|context| {
        loop {
            match Pin::new(&mut *connection).poll_write(context, &[b'x'; 1 << 16]) {
                Poll::Ready(written) => assert!(written.unwrap() > 0),
                Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// Whether a read waits now.
async fn read_waits(connection: &mut Connection) -> bool {
    let mut bytes = [0; 64];
    poll_fn(|context| {
        let mut buffer = tokio::io::ReadBuf::new(&mut bytes);
        Poll::Ready(tokio::io::AsyncRead::poll_read(Pin::new(&mut *connection), context, &mut buffer).is_pending())
    })
    .await
}

/// A connection whose client has sent the head of a request with a body.
async fn busy(connections: &Connections) -> (Connection, TcpStream) {
    let (mut connection, mut client) = accepted(connections).await;
    let head = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\n";
    client.write_all(head).await.unwrap();
    connection.read_exact(&mut vec![0; head.len()]).await.unwrap();
    connection.info.handle.begin_request();
    (connection, client)
}

#[tokio::test]
async fn who_does_not_read_is_let_go_when_memory_runs_short() {
    let connections = Connections::new();
    let (mut blocked, _client) = accepted(&connections).await;
    fill(&mut blocked).await;
    let writing = tokio::spawn(async move { blocked.write_all(&[b'x'; 1 << 16]).await });
    // The task waits by now.
    tokio::task::yield_now().await;
    connections.set_shortage(Shortage::Some);
    assert_eq!(writing.await.unwrap().unwrap_err().kind(), ErrorKind::OutOfMemory);
    let (mut flowing, mut client) = accepted(&connections).await;
    flowing.write_all(b"answer").await.unwrap();
    flowing.flush().await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer", "who reads is served");
}

#[tokio::test]
async fn bodies_of_requests_wait_until_there_is_memory() {
    let connections = Connections::new();
    let (mut connection, mut client) = busy(&connections).await;
    connections.set_shortage(Shortage::Some);
    client.write_all(b"body").await.unwrap();
    connection.io.socket().readable().await.unwrap();
    assert!(read_waits(&mut connection).await);
    let reading = tokio::spawn(async move {
        let mut body = [0; 4];
        connection.read_exact(&mut body).await.map(|_| body)
    });
    // The task waits by now.
    tokio::task::yield_now().await;
    connections.set_shortage(Shortage::None);
    assert_eq!(&reading.await.unwrap().unwrap(), b"body");
}

#[tokio::test]
async fn what_needs_memory_is_let_go_before_the_process_is_killed() {
    let connections = Connections::new();
    let (mut reading, mut client) = busy(&connections).await;
    let (mut writing, _client) = accepted(&connections).await;
    connections.set_shortage(Shortage::Dire);
    client.write_all(b"body").await.unwrap();
    assert_eq!(reading.read_exact(&mut [0; 4]).await.unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!(writing.write_all(b"answer").await.unwrap_err().kind(), ErrorKind::OutOfMemory);
    let (mut idle, _client) = accepted(&connections).await;
    assert!(read_waits(&mut idle).await, "who asks for nothing stays");
}
