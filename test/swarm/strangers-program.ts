// Knocks at a host with ever new keys: node strangers-program.js BOOTSTRAP HOST COUNT AT_ONCE
// It prints how many streams it was given.
import DHT from 'hyperdht'
import { keyPairFrom, randomBytes } from '../../lib/keys/identity.js'
import { parseBootstrap } from '../../lib/swarm/dht.js'

const [bootstrap = '', host = '', count = '0', atOnce = '1'] = process.argv.slice(2)
const dht = new DHT({ bootstrap: parseBootstrap(bootstrap), host: '127.0.0.1' })
const PATIENCE = 4_000
let opened = 0
let left = Number(count)

async function knock(): Promise<void> {
  const keyPair = keyPairFrom(randomBytes(32))
  const stream = dht.connect(Buffer.from(host, 'hex'), { keyPair })
  stream.on('open', () => opened++)
  stream.on('error', () => {})
  // A refusal is not told: it would go on asking for many seconds.
  const timer = setTimeout(() => stream.destroy(), PATIENCE)
  await new Promise((resolve) => stream.once('close', resolve))
  clearTimeout(timer)
}

async function knockOn(): Promise<void> {
  while (left-- > 0) await knock()
}

await Promise.all(Array.from({ length: Number(atOnce) }, knockOn))
console.log(opened)
await dht.destroy()
