// Answers HTTP requests: a page, one with a parameter, and JSON.

import { Request, Response, serve } from 'netwasm';

serve(handle);

async function handle(request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === '/') {
    return new Response('<h1>Home</h1>', { headers: { 'Content-Type': 'text/html' } });
  }
  const hello = pathname.match(/^\/hello\/([^/]+)$/);
  if (hello) {
    const name = decoded(hello[1]);
    if (name === null) {
      return new Response('the name is not percent-encoded UTF-8\n', { status: 400 });
    }
    return new Response(`Hello, ${name}!\n`);
  }
  if (pathname === '/sum' && request.method === 'POST') {
    const numbers: unknown = await request.json().catch(() => null);
    if (!Array.isArray(numbers)) {
      return new Response('send an array of numbers as JSON\n', { status: 400 });
    }
    return Response.json(numbers.reduce((sum, number) => sum + number, 0));
  }
  return new Response('Not found\n', { status: 404 });
}

// Null if the text is not percent-encoded UTF-8.
function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
