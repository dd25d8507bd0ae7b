// SPDX-License-Identifier: ISC
// tokio-postgres. Debian does not have the crate postgres-native-tls: Connector does the same with
// tokio-native-tls.
use bytes::Bytes;
use futures_util::{future::poll_fn, stream, SinkExt, TryStreamExt};
use native_tls::{Certificate, Identity, TlsConnector};
use std::{collections::HashSet, env, fs, future::Future, io, pin::Pin, task, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{AsyncMessage, Client, Config, Error, Notification, Socket};

#[derive(Clone)]
struct Connector(tokio_native_tls::TlsConnector, String);
struct Stream(tokio_native_tls::TlsStream<Socket>);

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, c: &mut task::Context<'_>, b: &mut ReadBuf<'_>) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(c, b)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, c: &mut task::Context<'_>, b: &[u8]) -> task::Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(c, b)
    }
    fn poll_flush(mut self: Pin<&mut Self>, c: &mut task::Context<'_>) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(c)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, c: &mut task::Context<'_>) -> task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(c)
    }
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        match self.0.get_ref().tls_server_end_point() {
            Ok(Some(digest)) => ChannelBinding::tls_server_end_point(digest),
            _ => ChannelBinding::none(),
        }
    }
}

impl TlsConnect<Socket> for Connector {
    type Stream = Stream;
    type Error = native_tls::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, native_tls::Error>> + Send>>;
    fn connect(self, tcp: Socket) -> Self::Future {
        Box::pin(async move { Ok(Stream(self.0.connect(&self.1, tcp).await?)) })
    }
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
    type TlsConnect = Connector;
    type Error = native_tls::Error;
    fn make_tls_connect(&mut self, host: &str) -> Result<Connector, native_tls::Error> {
        Ok(Connector(self.0.clone(), host.to_string()))
    }
}

fn var(name: &str) -> String {
    env::var(name).unwrap()
}

fn connector() -> Connector {
    let mut b = TlsConnector::builder();
    b.disable_built_in_roots(true);
    b.add_root_certificate(Certificate::from_pem(&fs::read(var("PGSSLROOTCERT")).unwrap()).unwrap());
    if let (Ok(cert), Ok(key)) = (env::var("PGSSLCERT"), env::var("PGSSLKEY")) {
        b.identity(Identity::from_pkcs8(&fs::read(cert).unwrap(), &fs::read(key).unwrap()).unwrap());
    }
    Connector(b.build().unwrap().into(), String::new())
}


type Notifications = UnboundedReceiver<Notification>;

async fn connect() -> Result<(Client, Notifications), Error> {
    let mut config = Config::new();
    config.host(&var("PGHOST")).port(var("PGPORT").parse().unwrap()).user(&var("PGUSER"));
    config.password(var("PGPASSWORD")).dbname(&var("PGDATABASE"));
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    let (client, mut connection) = config.connect(connector()).await?;
    let (send, receive) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|c| connection.poll_message(c)).await {
            if let AsyncMessage::Notification(n) = message {
                let _ = send.send(n);
            }
        }
    });
    Ok((client, receive))
}

async fn parameters(c: &Client) -> Result<String, Error> {
    let s = c.prepare("select $1::text, $2::int, $3::text").await?;
    let row = c.query_one(&s, &[&"käse 'x'", &42i32, &None::<String>]).await?;
    let (a, b, null): (String, i32, Option<String>) = (row.get(0), row.get(1), row.get(2));
    Ok(format!("{}|{}|{}", a, b, null.unwrap_or("NULL".into())))
}

async fn rows(c: &Client) -> Result<String, Error> {
    let all = c.query("select repeat(md5(i::text), 320) from generate_series(1, 10000) i", &[]).await?;
    Ok(format!("{} rows, {} bytes", all.len(), all.iter().map(|r| r.get::<_, &str>(0).len()).sum::<usize>()))
}

async fn copy(c: &Client) -> Result<String, Error> {
    c.batch_execute("create temp table t (a int, b text)").await?;
    let lines: String = (0..10000).map(|i| format!("{}\tline {}\n", i, i)).collect();
    let mut into = Box::pin(c.copy_in("copy t from stdin").await?);
    into.send_all(&mut stream::iter([Ok(Bytes::from(lines))])).await?;
    into.close().await?;
    let out: Vec<Bytes> = c.copy_out("copy (select * from t order by a) to stdout").await?.try_collect().await?;
    let text = String::from_utf8(out.concat()).unwrap();
    Ok(format!("{} lines, last {}", text.lines().count(), text.lines().last().unwrap()))
}

async fn error(c: &Client) -> Result<String, Error> {
    let e = c.query("select 1/0", &[]).await.unwrap_err();
    Ok(format!("{} then {}", e.code().unwrap().code(), c.query_one("select 1", &[]).await?.get::<_, i32>(0)))
}

async fn notify(c: &Client, mut notifications: Notifications) -> Result<String, Error> {
    c.batch_execute("listen c").await?;
    connect().await?.0.batch_execute("notify c, 'hello'").await?;
    let n = notifications.recv().await.unwrap();
    Ok(format!("{} {}", n.channel(), n.payload()))
}

// A request that comes before the query has no effect: repeat it. It is sent under TLS.
async fn cancel(c: &Client) -> Result<String, Error> {
    let token = c.cancel_token();
    let requests = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let _ = token.cancel_query(connector()).await;
        }
    });
    let e = c.batch_execute("select pg_sleep(60)").await.unwrap_err();
    requests.abort();
    Ok(e.code().unwrap().code().into())
}

async fn many() -> Result<String, Error> {
    let (mut all, mut pids) = (Vec::new(), HashSet::new());
    for _ in 0..50 {
        all.push(connect().await?);
    }
    for c in &all {
        pids.insert(c.0.query_one("select pg_backend_pid()", &[]).await?.get::<_, i32>(0));
    }
    Ok(pids.len().to_string())
}

async fn run(check: &str) -> Result<String, Error> {
    let (c, notifications) = connect().await?;
    match check {
        "connected" => Ok(c.query_one("select current_user::text", &[]).await?.get(0)),
        "parameters" => parameters(&c).await,
        "rows" => rows(&c).await,
        "copy" => copy(&c).await,
        "error" => error(&c).await,
        "notify" => notify(&c, notifications).await,
        "cancel" => cancel(&c).await,
        _ => many().await,
    }
}

#[tokio::main]
async fn main() {
    for check in env::args().skip(1) {
        match run(&check).await {
            Ok(result) => println!("{} {}", check, result),
            Err(e) => println!("{} failed: {} {}", check, e.code().map_or("", |c| c.code()), e),
        }
    }
}
