/**
 * Two sequences of one order, each thing beside its counterpart in the other; null where it has none.
 * `compare` is below zero when `a` comes before `b`, and 0 when they belong together.
 */
export async function* sideBySide<A, B>(
  left: AsyncIterable<A>,
  right: AsyncIterable<B>,
  compare: (a: A, b: B) => number
): AsyncGenerator<[a: A, b: B] | [a: A, b: null] | [a: null, b: B]> {
  const [as, bs] = [left[Symbol.asyncIterator](), right[Symbol.asyncIterator]()]
  let [a, b] = [await as.next(), await bs.next()]
  while (a.done !== true || b.done !== true) {
    const order = a.done === true ? 1 : b.done === true ? -1 : compare(a.value, b.value)
    if (order === 0 && a.done !== true && b.done !== true) {
      yield [a.value, b.value]
      a = await as.next()
      b = await bs.next()
    } else if (order < 0 && a.done !== true) {
      yield [a.value, null]
      a = await as.next()
    } else if (b.done !== true) {
      yield [null, b.value]
      b = await bs.next()
    }
  }
}
