// Sends each line back in capitals.

import { listen } from 'netwasm';

listen(async (conn) => {
  for await (const line of conn.lines()) {
    await conn.write(`${line.toUpperCase()}\n`);
  }
});
