import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Identity } from '../../lib/keys/identity.js'
import { History, signVersion } from '../../lib/parcel/history.js'
import { predict } from '../../lib/parcel/next-host.js'
import { randomFrom } from '../support/random.js'
import { version } from './versions.js'

const hosts = ['home', 'office', 'train'].map((name) => ({ name, identity: Identity.create() }))
const [home, office, train] = hosts
const id = (host = home): string => host?.identity.publicKey.toString('hex') ?? ''
const all = (): boolean => true

/** A parcel that goes from host to host. */
class Line {
  readonly history = new History(version().parcel)
  #last: Buffer | null = null

  made(by: (typeof hosts)[number] | undefined, created: number): void {
    if (by === undefined) throw new Error('no such host')
    const author = by.identity.publicKey
    const parents = this.#last === null ? [] : [this.#last]
    const { bytes, signature } = signVersion(by.identity, version({ author, parents, created }))
    this.#last = this.history.addVersion(bytes, signature, author).id
  }
}

/** Midnight of the n-th day after a Monday, and some hours. */
const at = (day: number, hour: number): number => new Date(2026, 0, 5 + day, hour).getTime()

test('days at the office, evenings at home, and Fridays on the train are learned', () => {
  const line = new Line()
  for (let day = 0; day < 28; day++) {
    if (day % 7 > 4) continue
    line.made(home, at(day, 8))
    line.made(day % 7 === 4 ? train : office, at(day, 18))
  }
  const next = (from: typeof home, day: number, hour: number): string | undefined =>
    predict(line.history, id(from), at(day, hour), all).next[0]?.host
  assert.equal(next(home, 28, 8), id(office))
  assert.equal(next(home, 32, 8), id(train))
  assert.equal(next(office, 29, 18), id(home))
  assert.equal(next(train, 32, 18), id(home))
  const { known, tried, right, next: guesses } = predict(line.history, id(home), at(28, 8), all)
  assert.equal(known, 39)
  assert.ok(right / tried > 0.8, `${right} of ${tried}`)
  const sum = guesses.reduce((total, { chance }) => total + chance, 0)
  assert.ok(Math.abs(sum - 1) < 1e-9)
  // Who is no member, or may not run it, is not guessed.
  const isOffice = (host: string): boolean => host === id(office)
  const only = predict(line.history, id(home), at(32, 8), isOffice).next
  assert.deepEqual(only, [{ host: id(office), chance: 1 }])
})

test('nothing known, nothing said; one host alone is no hand-off', () => {
  const line = new Line()
  assert.deepEqual(predict(line.history, id(home), 0, all), {
    next: [],
    known: 0,
    tried: 0,
    right: 0
  })
  for (let n = 0; n < 5; n++) line.made(home, at(n, 9))
  assert.equal(predict(line.history, id(home), at(6, 9), all).known, 0)
})

test('a history full of nonsense is no obstacle, nor are clocks that nobody can believe', () => {
  const line = new Line()
  const random = randomFrom(7)
  const times = [0, -1, 8_640_000_000_000_001, Number.MAX_SAFE_INTEGER, at(1, 9)]
  for (let n = 0; n < 2_000; n++) {
    line.made(hosts[random(3)], Math.max(0, times[random(times.length)] ?? 0))
  }
  const began = process.cpuUsage().user
  const { next, known, tried, right } = predict(line.history, id(home), at(2, 9), all)
  assert.ok(known > 0 && known <= 500)
  assert.ok(right <= tried)
  for (const { chance } of next) assert.ok(chance > 0 && chance <= 1)
  // What anybody can make others compute is bounded.
  assert.ok(process.cpuUsage().user - began < 5_000_000)
})
