// Sends each line back in capitals.

import { type Connection, listen } from 'netwasm';

listen(shout);

async function shout(conn: Connection): Promise<void> {
  for await (const line of conn.lines()) {
    await conn.write(`${line.toUpperCase()}\n`);
  }
}
