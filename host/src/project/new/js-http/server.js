// Answers HTTP requests: a page, and one with a parameter.

addEventListener('fetch', (event) => event.respondWith(handle(event.request)));

async function handle(request) {
  const { pathname } = new URL(request.url);
  if (pathname === '/') {
    return new Response('<h1>Home</h1>', { headers: { 'Content-Type': 'text/html' } });
  }
  const hello = pathname.match(/^\/hello\/([^/]+)$/);
  if (hello) {
    return new Response(`Hello, ${decodeURIComponent(hello[1])}!\n`);
  }
  return new Response('Not found\n', { status: 404 });
}
