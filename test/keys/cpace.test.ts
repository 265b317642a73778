import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Cpace, generator, multiply, scalarFrom } from '../../lib/keys/cpace.js'
import { randomBytes } from '../../lib/keys/identity.js'

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex')

/** Appendix B.3 of draft-irtf-cfrg-cpace-21. */
const VECTOR = {
  secret: Buffer.from('Password'),
  context: hex('6f630b425f726573706f6e6465720b415f696e69746961746f72'),
  session: hex('7e4b4791d6a8ef019b936c79fb7f2c57'),
  generator: hex('a6fc82c3b8968fbb2e06fee81ca858586dea50d248f0c7ca6a18b0902a30b36b'),
  a: hex('da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08'),
  A: hex('d40fb265a7abeaee7939d91a585fe59f7053f982c296ec413c624c669308f87a'),
  b: hex('d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d'),
  B: hex('08bcf6e9777a9c313a3db6daa510f2d398403319c2341bd506a92e672eb7e307'),
  secretPoint: hex('e22b1ef7788f661478f3cddd4c600774fc0f41e6b711569190ff88fa0e607e09'),
  key: hex(`4c5469a16b2364c4b944ebc1a79e51d1674ad47db26e8718154f59faebfaa52d
    8346f30aa58377117eb20d527f2cbc5c76381f7fd372e89df8239f87f2e02ed1`)
}

test('the vectors of the draft come out', () => {
  const { a, A, b, B } = VECTOR
  assert.deepEqual(generator(VECTOR), VECTOR.generator)
  const first = new Cpace(VECTOR, Buffer.from('ADa'), scalarFrom(a))
  const second = new Cpace(VECTOR, Buffer.from('ADb'), scalarFrom(b))
  assert.deepEqual([first.share.point, second.share.point], [A, B])
  assert.deepEqual(multiply(B, scalarFrom(a)), VECTOR.secretPoint)
  assert.deepEqual(first.initiated(second.share), VECTOR.key)
  assert.deepEqual(second.responded(first.share), VECTOR.key)
})

test('points that are none, and the neutral one, give no key', () => {
  const scalar = scalarFrom(hex('7cd0e075fa7955ba52c02759a6c90dbbfc10e6d40aea8d283e407d88cf538a05'))
  const good = hex('2c3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c')
  const product = hex('7c13645fe790a468f62c39beb7388e541d8405d1ade69d1778c5fe3e7f6b600e')
  assert.deepEqual(multiply(good, scalar), product)
  const bad = hex('2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c')
  for (const point of [bad, Buffer.alloc(32), Buffer.alloc(31), Buffer.alloc(32, 255)]) {
    assert.equal(multiply(point, scalar), null)
    const cpace = new Cpace(VECTOR, Buffer.alloc(0))
    assert.equal(cpace.initiated({ point, data: Buffer.alloc(0) }), null)
  }
})

test('only the same secret, context and session give the same key', () => {
  const none = Buffer.alloc(0)
  const talk = (other: Partial<typeof VECTOR>): boolean => {
    const [a, b] = [new Cpace(VECTOR, none), new Cpace({ ...VECTOR, ...other }, none)]
    const [first, second] = [a.initiated(b.share), b.responded(a.share)]
    assert.ok(first !== null && second !== null)
    return first.equals(second)
  }
  assert.equal(talk({}), true)
  for (const field of ['secret', 'context', 'session'] as const) {
    assert.equal(talk({ [field]: randomBytes(8) }), false)
  }
})
