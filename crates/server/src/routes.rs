//! Routes and the list of them: what a dialect serves is said once, and can be asked for, by tests and by the description of all routes.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use crate::app::State;

/// Some routes.
#[derive(Default)]
pub struct Routes {
    router: Router<State>,
    table: Vec<Route>,
}

/// A route: its method, and its path with `{names}` for parts that vary.
pub type Route = (Method, &'static str);

impl Routes {
    /// With a route for GET, and so for HEAD.
    #[must_use]
    pub fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, State>) -> Self {
        self.on(Method::GET, MethodFilter::GET, path, handler)
    }

    /// With a route for POST.
    #[must_use]
    pub fn post<T: 'static>(self, path: &'static str, handler: impl Handler<T, State>) -> Self {
        self.on(Method::POST, MethodFilter::POST, path, handler)
    }

    /// With a route for DELETE.
    #[must_use]
    pub fn delete<T: 'static>(self, path: &'static str, handler: impl Handler<T, State>) -> Self {
        self.on(Method::DELETE, MethodFilter::DELETE, path, handler)
    }

    /// With a route for HEAD alone.
    #[must_use]
    pub fn head<T: 'static>(self, path: &'static str, handler: impl Handler<T, State>) -> Self {
        self.on(Method::HEAD, MethodFilter::HEAD, path, handler)
    }

    fn on<T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        handler: impl Handler<T, State>,
    ) -> Self {
        self.table.push((method, path));
        Routes { router: self.router.route(path, on(filter, handler)), ..self }
    }

    /// With all of these, too.
    #[must_use]
    pub fn and(mut self, other: Routes) -> Self {
        self.table.extend(other.table);
        Routes { router: self.router.merge(other.router), ..self }
    }

    /// With something around the handlers.
    #[must_use]
    pub fn with(self, around: impl FnOnce(Router<State>) -> Router<State>) -> Self {
        Routes { router: around(self.router), ..self }
    }

    /// The list.
    pub fn table(&self) -> &[Route] {
        &self.table
    }

    /// What serves them.
    pub fn router(self) -> Router<State> {
        self.router
    }
}
