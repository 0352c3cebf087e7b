//! A browser: a connection that is kept, and a cookie jar.

use std::{collections::BTreeMap, io, net::SocketAddr};

use crate::support::{Client, Response};

pub(super) struct Browser {
    address: SocketAddr,
    client: Option<Client>,
    jar: BTreeMap<String, String>,
}

/// What the lab's page shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) host: String,
    pub(super) views: u64,
}

impl Browser {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, client: None, jar: BTreeMap::new() }
    }

    pub(super) fn clear_cookies(&mut self) {
        self.jar.clear();
    }

    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        self.jar.get(name).map(String::as_str)
    }

    /// Loads the page.
    #[track_caller]
    pub(super) fn refresh(&mut self) -> Page {
        self.try_refresh().unwrap_or_else(|error| panic!("the page did not load: {error}"))
    }

    pub(super) fn try_refresh(&mut self) -> io::Result<Page> {
        let cookies: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let line = if cookies.is_empty() { String::new() } else { format!("Cookie: {}\r\n", cookies.join("; ")) };
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::try_connect(self.address)?,
        };
        let response = self.client.insert(client).try_get("/", &line)?;
        self.keep_cookies(&response);
        if response.status() != 200 {
            return Err(io::Error::other(format!("status {}", response.status())));
        }
        let page: serde_json::Value = serde_json::from_slice(&response.body)?;
        let host = page["host"].as_str().unwrap_or_default().to_owned();
        Ok(Page { host, views: page["sessionViews"].as_u64().unwrap_or_default() })
    }

    fn keep_cookies(&mut self, response: &Response) {
        for line in response.head.all("set-cookie") {
            let pair = line.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.jar.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }
}
