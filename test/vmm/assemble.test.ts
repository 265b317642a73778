import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assemble } from '../../lib/vmm/assemble.js'
import { builtInRom } from '../../lib/vmm/rom.js'

/** Each form that the ROM or a test's ROM uses; `objdump -D -b binary -m i8086` reads the bytes back as it. */
const FORMS: [source: string, hex: string][] = [
  ['cli', 'fa'],
  ['sti', 'fb'],
  ['cld', 'fc'],
  ['hlt', 'f4'],
  ['nop', '90'],
  ['ret', 'c3'],
  ['iret', 'cf'],
  ['cs', '2e'],
  ['lodsb', 'ac'],
  ['mov ds, ax', '8ed8'],
  ['mov ss, cx', '8ed1'],
  ['mov al, 0x80', 'b080'],
  ["mov dh, ' '", 'b620'],
  ['mov sp, 0x7c00', 'bc007c'],
  ['mov ebx, 0x80000000', '66bb00000080'],
  ['mov bl, ah', '88e3'],
  ['mov dx, si', '89f2'],
  ['mov eax, ebx', '6689d8'],
  ['mov al, [0x504]', '8a060405'],
  ['mov cx, word [0x500]', '8b0e0005'],
  ['mov eax, dword [0x500]', '668b060005'],
  ['mov [0x500], dx', '89160005'],
  ['mov byte [0x504], 1', 'c606040501'],
  ['mov word [0x22], 0xf000', 'c706220000f0'],
  ['mov dword [0x500], 5', '66c706000505000000'],
  ['xor ax, ax', '31c0'],
  ['xor edx, edx', '6631d2'],
  ['add al, 4', '80c004'],
  ['and ax, 15', '81e00f00'],
  ['add ebx, 0x100', '6681c300010000'],
  ['cmp eax, 0xffffffff', '6681f8ffffffff'],
  ['cmp byte [0x504], 0', '803e040500'],
  ['sub cx, [0x500]', '2b0e0005'],
  ['or [0x500], al', '08060005'],
  ['test al, al', '84c0'],
  ['test eax, eax', '6685c0'],
  ['test al, 0x20', 'f6c020'],
  ['inc cx', 'ffc1'],
  ['dec al', 'fec8'],
  ['inc dword [0x500]', '66ff060005'],
  ['div ebx', '66f7f3'],
  ['shl eax, 4', '66c1e004'],
  ['shr dl, 1', 'c0ea01'],
  ['push ax', '50'],
  ['push eax', '6650'],
  ['pop di', '5f'],
  ['in al, dx', 'ec'],
  ['in ax, dx', 'ed'],
  ['in eax, dx', '66ed'],
  ['in al, 0x60', 'e460'],
  ['out dx, al', 'ee'],
  ['out dx, ax', 'ef'],
  ['out dx, eax', '66ef'],
  ['out 0x20, al', 'e620'],
  ['jmp 0xf000:0x10', 'ea100000f0'],
  ['a: jmp a', 'e9fdff'],
  ['call a\na: ret', 'e80000c3'],
  ['je a\nnop\na: nop', '74019090'],
  ['a: nop\njne a', '9075fd'],
  ['a: jb a', '72fe'],
  ['a: jae a', '73fe'],
  ['a: jbe a', '76fe'],
  ['a: ja a', '77fe'],
  ['a: loop a', 'e2fe'],
  ['db "a;b, ", 0, -1', '613b622c2000ff'],
  ["dw 0x1234, ';'", '34123b00'],
  ['dd 0x12345678', '78563412'],
  ['X equ 0x10 ; a comment\norg 2\nmov al, X', '0000b010']
]

for (const [source, hex] of FORMS) {
  test(`assembles ${JSON.stringify(source)}`, () => {
    const size = hex.length / 2
    assert.equal(Buffer.from(assemble(source, size)).toString('hex'), hex)
  })
}

const WRONG: [source: string, message: RegExp][] = [
  ['nop\nfly ax', /line 2: fly ax: no such instruction/],
  ['mov al, 256', /256 is out of range/],
  ['mov al, bx', /differ in size/],
  ['inc [0x500]', /say byte, word or dword/],
  ['jmp nowhere', /no symbol nowhere/],
  ['a: nop\na: nop', /a is defined twice/],
  ['a: org 200\nje a', /-202 is out of range/],
  ['org b\nb: nop', /defined above/],
  ['org 300', /300 is out of range/],
  ['org 255\ndw 1', /257 is out of range/],
  ['in bx, dx', /only al, ax or eax/],
  ['out cx, al', /dx or a constant/]
]

for (const [source, message] of WRONG) {
  test(`refuses ${JSON.stringify(source)}`, () => {
    assert.throws(() => assemble(source, 256), { code: 'FAILED', message })
  })
}

test('the built-in ROM is 64 KiB and begins at the reset vector', () => {
  const rom = Buffer.from(builtInRom())
  assert.equal(rom.length, 64 * 1024)
  assert.equal(rom.subarray(0xfff0, 0xfff5).toString('hex'), 'ea000000f0')
  assert.equal(rom[0], 0xfa)
})
