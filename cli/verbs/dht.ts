import type { Command } from 'commander'
import { library, verb } from '../context.js'
import { port } from '../options.js'

export function dhtVerb(program: Command): void {
  const command = program
    .command('dht')
    .description('run a DHT of your own, for hosts without internet, until Ctrl-C')
    .option('--port <port>', 'where (default: a free one)', port, 0)
    .option('--host <address>', 'the address that the other hosts reach it at', '127.0.0.1')
    .addHelpText(
      'after',
      `
It prints host:port; give that to every host with --bootstrap or HYPERPARCEL_BOOTSTRAP.
Example: hyperparcel dht --host 192.0.2.7 --port 49737`
    )
  verb(command, async ({ terminal, signal }, self) => {
    const options = self.opts<{ port: number; host: string }>()
    const { PrivateDht } = await library()
    const dht = await PrivateDht.start(options)
    terminal.result('dht', { bootstrap: dht.address }, dht.address)
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    await dht.stop()
    process.exit(0)
  })
}
