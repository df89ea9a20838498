//! Requests by their paths.

mod composing;

use std::rc::Rc;

pub use self::composing::Next;

use super::percent::decode;
use super::response::{is_reading, options};
use super::{Answered, Handler, Method, Request, Response, files};

/// Answers requests by their paths and methods.
///
/// A pattern is a path whose segments are text, or `{name}` for any one segment
/// that is not empty. A last segment `{*name}` stands for all that follows, be
/// it nothing. Text goes before `{name}`, and that before `{*name}`, in
/// whatever order they were added. Segments are compared decoded, and a `%2F`
/// does not separate any.
///
/// - A path without a pattern is answered by 404, or by the
///   [`fallback`](Self::fallback).
/// - A method that a path has no handler for is answered by 405 with `Allow`.
/// - HEAD is answered as GET; the host then sends no body.
/// - OPTIONS is answered by 204 with `Allow`.
#[derive(Default)]
#[must_use = "it answers nothing unless it is exported"]
pub struct Router {
    root: Node,
    fallback: Option<Route>,
}

type Route = Box<dyn Fn(Request<'_>) -> Answered>;

/// Continuations at one place of a path.
#[derive(Default)]
struct Node {
    literals: Vec<(String, Self)>,
    parameter: Option<Box<Self>>,
    rest: Option<Resource>,
    /// Route of a path that ends here.
    resource: Option<Resource>,
}

/// Handlers of the requests for a pattern.
#[derive(Default)]
struct Resource {
    routes: Vec<(Method, Vec<String>, Route)>,
}

impl Router {
    /// Makes one without any paths.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers GET and HEAD.
    pub fn get<M>(self, pattern: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::Get, pattern, handler)
    }

    /// Answers POST.
    pub fn post<M>(self, pattern: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::Post, pattern, handler)
    }

    /// Answers PUT.
    pub fn put<M>(self, pattern: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::Put, pattern, handler)
    }

    /// Answers PATCH.
    pub fn patch<M>(self, pattern: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::Patch, pattern, handler)
    }

    /// Answers DELETE.
    pub fn delete<M>(self, pattern: &str, handler: impl Handler<M>) -> Self {
        self.route(Method::Delete, pattern, handler)
    }

    /// Answers a method.
    ///
    /// # Panics
    /// If the pattern is not one, or has a handler for the method.
    pub fn route<M>(self, method: Method, pattern: &str, handler: impl Handler<M>) -> Self {
        self.add(method, pattern, route_to(handler))
    }

    /// Sends the files of a directory, by their paths below a prefix; a
    /// directory's `index.html` for a path that ends in a slash. The directory
    /// is one of the guest's, from `--dir`.
    ///
    /// Names that begin with a dot are refused (404), except what is in
    /// `/.well-known/`, and so are paths that `..` or escapes could lead
    /// elsewhere (400). The host keeps to the directories of `--dir` in any
    /// case.
    ///
    /// ```
    /// # use netwasm_guest::http::Router;
    /// // /static/style.css is /public/style.css, of `--dir ./public::/public`.
    /// let router = Router::new().files("/static", "/public");
    /// ```
    pub fn files(self, prefix: &str, directory: &str) -> Self {
        let prefix = prefix.trim_end_matches('/');
        let directory = directory.trim_end_matches('/').to_owned();
        let send = move |request: Request<'_>| {
            let rest = request.last_parameter().unwrap_or_default();
            let response = match files::locate(&directory, rest) {
                Ok(path) => Response::file(path),
                Err(response) => response,
            };
            Answered::from(response)
        };
        let router = self.add(Method::Get, &format!("{prefix}/{{*path}}"), Box::new(send));
        if prefix.is_empty() {
            return router;
        }
        let add_slash = |request: Request<'_>| {
            let (path, query) = (request.path(), request.query());
            let mark = if query.is_empty() { "" } else { "?" };
            let location = format!("{path}/{mark}{query}");
            Answered::from(Response::new(301).header("location", location))
        };
        router.add(Method::Get, prefix, Box::new(add_slash))
    }

    /// Answers all paths that no pattern stands for, whatever the method.
    pub fn fallback<M>(mut self, handler: impl Handler<M>) -> Self {
        self.fallback = Some(route_to(handler));
        self
    }

    fn add(mut self, method: Method, pattern: &str, route: Route) -> Self {
        let Some(path) = pattern.strip_prefix('/') else {
            panic!("the pattern {pattern} does not begin with a slash");
        };
        let mut names = Vec::new();
        let resource = self.root.resource_of(pattern, path, &mut names);
        if resource.routes.iter().any(|(other, ..)| *other == method) {
            panic!("{method} {pattern} has two handlers");
        }
        resource.routes.push((method, names, route));
        self
    }

    /// Answers a request.
    pub(crate) fn respond(&self, request: Request<'_>) -> Answered {
        let target = request.target();
        if target == "*" {
            let mut methods = Vec::new();
            self.root.collect(&mut methods);
            return options(&allow(methods)).into();
        }
        let mut values = Vec::new();
        let path = request.path().strip_prefix('/');
        let found = path.and_then(|path| self.root.find(Some(path), &mut values));
        let Some(resource) = found else {
            return match &self.fallback {
                Some(fallback) => fallback(request),
                None => request.refuse(404, "").into(),
            };
        };
        if let Some((_, names, route)) = resource.route(request.method()) {
            let names = names.iter().map(|name| &**name);
            let parameters: Vec<_> = names.zip(values).collect();
            return route(request.with_parameters(&parameters));
        }
        let allow = allow(resource.methods());
        if *request.method() == Method::Options {
            options(&allow).into()
        } else {
            request.refuse(405, "").header("allow", allow).into()
        }
    }
}

impl Node {
    /// The resource of a pattern below this node.
    fn resource_of(&mut self, pattern: &str, path: &str, names: &mut Vec<String>) -> &mut Resource {
        let (segment, rest) = match path.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (path, None),
        };
        let in_braces = segment
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'));
        let next = match in_braces {
            Some(name) => {
                if let Some(name) = name.strip_prefix('*') {
                    if rest.is_some() {
                        panic!("in the pattern {pattern}, {segment} is not the last segment");
                    }
                    names.push(name.to_owned());
                    return self.rest.get_or_insert_default();
                }
                names.push(name.to_owned());
                &mut **self.parameter.get_or_insert_default()
            }
            None if segment.contains(['{', '}']) => {
                panic!("in the pattern {pattern}, a parameter is a whole segment")
            }
            None => self.literal(segment),
        };
        match rest {
            Some(rest) => next.resource_of(pattern, rest, names),
            None => next.resource.get_or_insert_default(),
        }
    }

    fn literal(&mut self, segment: &str) -> &mut Self {
        let at = self.literals.iter().position(|(text, _)| text == segment);
        let at = at.unwrap_or_else(|| {
            self.literals.push((segment.to_owned(), Self::default()));
            self.literals.len() - 1
        });
        &mut self.literals[at].1
    }

    /// Finds what a path is. `path` is what is left of it, `None` at its end.
    fn find<'r, 'p>(
        &'r self,
        path: Option<&'p str>,
        values: &mut Vec<&'p str>,
    ) -> Option<&'r Resource> {
        let Some(path) = path else {
            return self.resource.as_ref();
        };
        let (segment, rest) = match path.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (path, None),
        };
        if !self.literals.is_empty()
            && let Some(text) = decode(segment)
            && let Some((_, node)) = self.literals.iter().find(|(literal, _)| *literal == text)
            && let Some(resource) = node.find(rest, values)
        {
            return Some(resource);
        }
        if let Some(node) = &self.parameter
            && !segment.is_empty()
        {
            values.push(segment);
            if let Some(resource) = node.find(rest, values) {
                return Some(resource);
            }
            values.pop();
        }
        let resource = self.rest.as_ref()?;
        values.push(path);
        Some(resource)
    }

    /// Adds the methods of all resources.
    fn collect<'r>(&'r self, methods: &mut Vec<&'r Method>) {
        for resource in self.resource.iter().chain(&self.rest) {
            methods.extend(resource.methods());
        }
        let nodes = self.literals.iter().map(|(_, node)| node);
        for node in nodes.chain(self.parameter.as_deref()) {
            node.collect(methods);
        }
    }
}

impl Resource {
    fn route(&self, method: &Method) -> Option<&(Method, Vec<String>, Route)> {
        let find = |wanted: &Method| self.routes.iter().find(|(method, ..)| method == wanted);
        let found = find(method);
        if found.is_none() && is_reading(method) {
            return find(&Method::Get);
        }
        found
    }

    fn methods(&self) -> impl Iterator<Item = &Method> {
        self.routes.iter().map(|(method, ..)| method)
    }
}

fn route_to<M, H: Handler<M>>(handler: H) -> Route {
    let handler = Rc::new(handler);
    Box::new(move |request| H::call(handler.clone(), request))
}

/// The value of `Allow` (RFC 9110, section 10.2.1).
fn allow<'a>(methods: impl IntoIterator<Item = &'a Method>) -> String {
    let mut names = vec!["OPTIONS"];
    for method in methods {
        let also = (*method == Method::Get).then_some("HEAD");
        for name in [method.as_str()].into_iter().chain(also) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    // In the order of the standard, so that it does not depend on that of the
    // patterns; others follow.
    const ORDER: [&str; 4] = ["OPTIONS", "GET", "HEAD", "POST"];
    names.sort_by_key(|name| {
        ORDER
            .iter()
            .position(|other| other == name)
            .unwrap_or(ORDER.len())
    });
    names.join(", ")
}

#[cfg(test)]
mod tests;
