//! One conversation: reads commands, writes replies.
//!
//! A command is carried out only when the reply to the one before it has been taken, so that a client which sends many and
//! reads slowly costs one reply. Each reply is one write with the prompt behind it: hatop takes a piece that ends in `> ` for
//! the whole.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::yield_now,
    time::{Instant, timeout, timeout_at},
};

use super::{
    input::{Input, MAX_LINE, commands},
    table::{State, run},
};
use crate::admin::Context;

/// Read at once.
const PIECE: usize = 4 * 1024;
/// How long a connection stays half open so that a client which is still sending reads the last reply.
const LINGER: Duration = Duration::from_secs(1);

/// Serves a client until it is done, or takes too long to say or to hear something.
pub(super) async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, context: &Context, mut state: State) {
    match answer_all(&mut stream, context, &mut state).await {
        Ok(()) => part(stream).await,
        Err(error) => tracing::debug!("a session of the runtime API ended: {error}"),
    }
}

/// Answers until there is no reason to go on. One without a prompt ends with what came together.
async fn answer_all(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    context: &Context,
    state: &mut State,
) -> io::Result<()> {
    let mut input = Input::default();
    let mut piece = [0; PIECE];
    let mut payload = None;
    // When the last whole line came: bytes without end must not keep a connection for ever.
    let mut heard = Instant::now();
    loop {
        let (mut answered, mut any_line) = (false, false);
        loop {
            let line = match input.line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(_too_long) => {
                    let reply = format!("The command line is longer than {MAX_LINE} bytes.\n\n");
                    return write(stream, reply.as_bytes(), state.timeout).await;
                }
            };
            any_line = true;
            // Lines behind `<<` belong to the command before, up to an empty one; no command here has a use for them.
            let line = match payload.take() {
                Some(command) if line.is_empty() => command,
                Some(command) => {
                    payload = Some(command);
                    continue;
                }
                None => match line.trim_end().strip_suffix("<<") {
                    Some(command) => {
                        payload = Some(command.to_owned());
                        if state.interactive {
                            write(stream, b"+ ", state.timeout).await?;
                        }
                        continue;
                    }
                    None => line,
                },
            };
            answered = true;
            let is_http = is_http(&line);
            for words in commands(&line) {
                let mut reply = run(context, state, &words);
                if state.quits {
                    return Ok(());
                }
                reply.push_str(if state.interactive { "\n> " } else { "\n" });
                write(stream, reply.as_bytes(), state.timeout).await?;
                // A line may have hundreds of commands, each of which builds a pool anew.
                yield_now().await;
            }
            if is_http {
                return Ok(());
            }
        }
        if answered && !state.interactive && payload.is_none() {
            return Ok(());
        }
        if any_line {
            heard = Instant::now();
        }
        match timeout_at(heard + state.timeout, stream.read(&mut piece)).await {
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(Ok(length)) => input.push(&piece[..length]),
            Ok(Err(error)) => return Err(error),
        }
    }
}

/// Whether a line is an HTTP request's first one. Any page on the Web can make a browser send a request here, and lines of
/// its body would be commands.
fn is_http(line: &str) -> bool {
    let version = line.trim_end().rsplit(' ').next().unwrap_or_default();
    version.starts_with("HTTP/")
}

/// Writes all, as long as the client takes some of it now and then.
async fn write(stream: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(patience, stream.write(bytes)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Says that there is no more, and lets the client read it: what it still sends would reset the connection otherwise.
async fn part(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut piece = [0; PIECE];
    let parted = async {
        stream.shutdown().await?;
        while stream.read(&mut piece).await? > 0 {}
        io::Result::Ok(())
    };
    // Whatever happens to a connection that is over.
    let _over = timeout(LINGER, parted).await;
}
