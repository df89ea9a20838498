//! Routers made of others, and layers around their handlers.

use std::rc::Rc;

use super::{Node, Route, Router};
use crate::http::{Answered, Method, Request, Response, answer};

impl Router {
    /// Adds the paths of another router, and its [`fallback`](Self::fallback).
    ///
    /// # Panics
    /// If both have a handler for a method of a pattern, or a fallback.
    pub fn merge(mut self, other: Self) -> Self {
        let Self { root, fallback } = other;
        self = self.add_all("", root);
        if let Some(fallback) = fallback
            && self.fallback.replace(fallback).is_some()
        {
            panic!("the routers to merge have two fallbacks");
        }
        self
    }

    /// Adds the paths of another router below a prefix, which is a pattern: its `/` is
    /// then the prefix itself, as it is written here, and its `/x` is `/x` below that.
    ///
    /// The handlers see the request as it came, with the prefix in its
    /// [path](Request::path). Parameters of the prefix come before those of their
    /// own patterns.
    ///
    /// ```
    /// use netwasm_guest::http::{Path, Router};
    ///
    /// let users = Router::new()
    ///     .get("/", async || "all users")
    ///     .get("/{name}", async |Path(name): Path<String>| format!("user {name}"));
    /// let router = Router::new().nest("/api/users", users);
    /// # let client = netwasm_guest::testing::Client::new(router);
    /// # assert_eq!(client.get("/api/users").send().text(), "all users");
    /// # assert_eq!(client.get("/api/users/ada").send().text(), "user ada");
    /// ```
    ///
    /// # Panics
    /// If the prefix is `/` (see [`merge`](Self::merge)) or no pattern, or ends in
    /// `{*name}`; if the other router has a fallback, which only the outermost one
    /// has; if both have a handler for a method of a pattern.
    pub fn nest(self, prefix: &str, other: Self) -> Self {
        if !prefix.starts_with('/') {
            panic!("the prefix {prefix} does not begin with a slash");
        }
        if prefix.trim_end_matches('/').is_empty() {
            panic!("routers are nested below a prefix; merge() adds one without");
        }
        if prefix
            .rsplit('/')
            .next()
            .is_some_and(|it| it.starts_with("{*"))
        {
            panic!("the prefix {prefix} leaves nothing to the router below it");
        }
        if other.fallback.is_some() {
            panic!("the router below {prefix} has a fallback: only the outermost one has");
        }
        self.add_all(prefix, other.root)
    }

    /// Puts a layer around all handlers that were added before, and the
    /// [`fallback`](Self::fallback): an async function of a request, and of what
    /// answers it. The layer that is added last runs first.
    ///
    /// The router's own answers (404, 405, OPTIONS) do not pass through it.
    /// A request's body is collected before the layer runs, and so is one for a
    /// handler with an [`Upload`](crate::http::Upload).
    ///
    /// ```
    /// use netwasm_guest::http::{Next, Request, Response, Router};
    ///
    /// async fn members(request: Request<'_>, next: Next<'_>) -> Response {
    ///     if request.header("authorization").is_none() {
    ///         return Response::error(401).header("www-authenticate", "Bearer");
    ///     }
    ///     next.run(request).await.header("cache-control", "private")
    /// }
    ///
    /// let router = Router::new()
    ///     .get("/account", async || "yours")
    ///     .layer(members)
    ///     .get("/", async || "everybody's");
    /// # let client = netwasm_guest::testing::Client::new(router);
    /// # assert_eq!(client.get("/").send().text(), "everybody's");
    /// # assert_eq!(client.get("/account").send().status(), 401);
    /// # let asked = client.get("/account").header("authorization", "Bearer x").send();
    /// # assert_eq!(asked.header("cache-control").as_deref(), Some("private"));
    /// ```
    pub fn layer<L, R>(mut self, layer: L) -> Self
    where
        L: AsyncFn(Request<'_>, Next<'_>) -> R + 'static,
        R: Into<Response>,
    {
        let layer = Rc::new(layer);
        let fallback = self.fallback.take();
        self.fallback = fallback.map(|route| layered(&layer, route));
        let mut routes = Vec::new();
        std::mem::take(&mut self.root).into_routes("", &mut routes);
        for (method, pattern, route) in routes {
            self = self.add(method, &pattern, layered(&layer, route));
        }
        self
    }

    fn add_all(mut self, prefix: &str, root: Node) -> Self {
        let mut routes = Vec::new();
        root.into_routes("", &mut routes);
        for (method, pattern, route) in routes {
            let pattern = match &*pattern {
                "/" if !prefix.is_empty() => prefix.to_owned(),
                pattern => prefix.strip_suffix('/').unwrap_or(prefix).to_owned() + pattern,
            };
            self = self.add(method, &pattern, route);
        }
        self
    }
}

/// The way to the handler of a request, for a [layer](Router::layer) around it.
#[must_use = "nothing answers the request unless it is run"]
pub struct Next<'a>(&'a Route);

impl Next<'_> {
    /// Answers the request: by the next layer, or by the handler.
    pub async fn run(self, request: Request<'_>) -> Response {
        match (self.0)(request) {
            Answered::Ready(response) => response,
            Answered::Later(later) => later.answer.await,
            // The request was whole before the layer ran, so this cannot be.
            Answered::Collect => Response::error(500),
        }
    }
}

/// Puts a layer around a route.
fn layered<L, R>(layer: &Rc<L>, route: Route) -> Route
where
    L: AsyncFn(Request<'_>, Next<'_>) -> R + 'static,
    R: Into<Response>,
{
    let both = Rc::new((layer.clone(), route));
    Box::new(move |request| {
        if !request.is_whole() {
            return Answered::Collect;
        }
        let both = both.clone();
        let (parts, held) = request.into_parts();
        let answer = async move {
            let (layer, route): (&L, _) = (both.0.as_ref(), &both.1);
            let answer = parts.call(async |request: Request<'_>| layer(request, Next(route)).await);
            answer.await.into()
        };
        answer::begin(Box::pin(answer), Some(held))
    })
}

impl Node {
    /// Takes all routes below this node, each with its pattern. `path` leads here, with
    /// `{}` in place of each parameter.
    fn into_routes(self, path: &str, routes: &mut Vec<(Method, String, Route)>) {
        let ends = self.resource.into_iter().map(|it| (it, path.to_owned()));
        let rest = self
            .rest
            .into_iter()
            .map(|it| (it, format!("{path}/{{*}}")));
        for (resource, path) in ends.chain(rest) {
            for (method, names, route) in resource.routes {
                routes.push((method, named(&path, &names), route));
            }
        }
        for (literal, node) in self.literals {
            node.into_routes(&format!("{path}/{literal}"), routes);
        }
        if let Some(node) = self.parameter {
            node.into_routes(&format!("{path}/{{}}"), routes);
        }
    }
}

/// Returns a pattern with the names of its parameters, which were left out.
fn named(path: &str, names: &[String]) -> String {
    let mut names = names.iter();
    let mut pattern = String::new();
    let mut rest = path;
    while let Some((text, after)) = rest.split_once('}') {
        pattern += text;
        pattern += names.next().map_or("", String::as_str);
        pattern.push('}');
        rest = after;
    }
    pattern + rest
}
