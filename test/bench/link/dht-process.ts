// A private DHT that others reach at an address: dht-process.js ADDRESS
import { PrivateDht } from '../../../lib/index.js'
import { serve } from '../across/end.js'

const dht = await PrivateDht.start({ host: process.argv[2] ?? '' })
serve({ address: async () => dht.address }, () => dht.stop())
