//! A strict interpreter of the pickle opcodes that `torch.save` writes. It runs nothing: classes are only names.
//!
//! Opcodes after CPython's `pickletools` (protocols 2 to 5). Results live in an arena and refer to each other by
//! index, so that neither shared nor cyclic nor deep structures cost more than the bytes that describe them.

use std::collections::{BTreeMap, BTreeSet};

/// Index of a [`Node`] in [`Pickle::nodes`].
pub(super) type Id = usize;

/// What a pickle describes.
#[derive(Debug)]
pub(super) struct Pickle {
    /// Every value that was built.
    pub(super) nodes: Vec<Node>,
    /// The value of the whole.
    pub(super) root: Id,
    /// Classes and functions it names, for errors.
    pub(super) classes: BTreeSet<String>,
}

/// One value.
#[derive(Debug)]
pub(super) enum Node {
    /// `None`, a float, bytes, an instance of an unknown class: nothing that weights are made of.
    Other,
    /// An integer or truth value.
    Int(i64),
    /// A string.
    Text(String),
    /// A tuple or list.
    Sequence(Vec<Id>),
    /// A dictionary in the order in which it was filled.
    Dict(Vec<(Id, Id)>),
    /// `module.name` of a class or function.
    Class(String),
    /// A storage by its persistent id.
    Storage(StorageRef),
    /// A tensor.
    Tensor(TensorRef),
}

/// The persistent id of a storage: `("storage", class, key, location, len)`.
#[derive(Debug, Clone)]
pub(super) struct StorageRef {
    /// `torch.FloatStorage` and the like.
    pub(super) class: String,
    /// Name of the zip entry below `data/`.
    pub(super) key: String,
    /// Number of elements.
    pub(super) len: usize,
}

/// Arguments of `torch._utils._rebuild_tensor_v2`: shape and stride have one entry an axis.
#[derive(Debug, Clone)]
pub(super) struct TensorRef {
    /// Where its elements are.
    pub(super) storage: StorageRef,
    /// Element of the storage at index (0, 0, …).
    pub(super) offset: usize,
    /// Length of every axis.
    pub(super) shape: Vec<usize>,
    /// Elements from one index to the next, for every axis.
    pub(super) stride: Vec<usize>,
}

impl TensorRef {
    /// Whether its elements lie in row-major order without gaps. Sizes must not overflow.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.stride).rev().all(|(&length, &stride)| {
            let fits = length == 1 || stride == expected;
            expected *= length.max(1);
            fits
        })
    }
}

/// Interprets a pickle; the error says what is wrong and at which byte.
pub(super) fn parse(bytes: &[u8]) -> Result<Pickle, String> {
    let mut machine = Machine { input: Input { bytes, at: 0 }, ..Machine::default() };
    loop {
        let at = machine.input.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => return Ok(Pickle { nodes: machine.nodes, root, classes: machine.classes }),
            Err(detail) => return Err(format!("{detail} (byte {at})")),
        }
    }
}

/// The bytes and how far they are read.
#[derive(Default)]
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..n).ok_or("it ends in the middle of an instruction")?;
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("take returns N bytes"))
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<usize, String> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    /// A text up to the next line feed, which is not part of it.
    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("a name without its end")?;
        let text = self.text(length)?;
        self.at += 1;
        Ok(text)
    }

    fn text(&mut self, length: usize) -> Result<String, String> {
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| "a text is not UTF-8".to_owned())
    }

    /// A little-endian two's complement integer of `length` bytes.
    fn long(&mut self, length: usize) -> Result<Node, String> {
        let bytes = self.take(length)?;
        let Some(&top) = bytes.last() else { return Ok(Node::Int(0)) };
        if length > 8 {
            // torch's own magic numbers are longer; no size in a weight file is.
            return Ok(Node::Other);
        }
        let mut extended = [if top & 0x80 == 0 { 0 } else { 0xff }; 8];
        extended[..length].copy_from_slice(bytes);
        Ok(Node::Int(i64::from_le_bytes(extended)))
    }
}

/// The pickle machine: a stack of values, marks in it, and the memo.
#[derive(Default)]
struct Machine<'a> {
    input: Input<'a>,
    nodes: Vec<Node>,
    classes: BTreeSet<String>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<usize, Id>,
}

impl Machine<'_> {
    /// Executes one instruction; the root at the end.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let opcode = self.input.byte()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            // Protocol and frame: nothing to build.
            0x80 => _ = self.input.byte()?,
            0x95 => _ = self.input.take(8)?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => _ = self.pop()?,
            b'q' | b'r' | b'h' | b'j' | 0x94 => self.memo(opcode)?,
            b'a' | b'e' | b's' | b'u' => self.fill(opcode)?,
            b'c' | 0x93 | b'R' | 0x81 | b'b' | b'Q' => self.object(opcode)?,
            b't' | b'l' | b'd' | 0x85..=0x87 | b')' | b']' | b'}' | 0x8f => self.container(opcode)?,
            _ => {
                let scalar = self.scalar(opcode)?;
                self.push(scalar);
            }
        }
        Ok(None)
    }

    fn scalar(&mut self, opcode: u8) -> Result<Node, String> {
        let input = &mut self.input;
        Ok(match opcode {
            b'N' => Node::Other,
            0x88 => Node::Int(1),
            0x89 => Node::Int(0),
            b'K' => Node::Int(input.byte()?.into()),
            b'M' => Node::Int(u16::from_le_bytes(input.array()?).into()),
            b'J' => Node::Int(i32::from_le_bytes(input.array()?).into()),
            b'G' => input.take(8).map(|_| Node::Other)?,
            0x8a => {
                let length = input.byte()?.into();
                input.long(length)?
            }
            b'X' => {
                let length = input.u32()?;
                Node::Text(input.text(length)?)
            }
            0x8c => {
                let length = input.byte()?.into();
                Node::Text(input.text(length)?)
            }
            // Byte strings.
            b'C' => {
                let length = input.byte()?.into();
                input.take(length).map(|_| Node::Other)?
            }
            b'B' => {
                let length = input.u32()?;
                input.take(length).map(|_| Node::Other)?
            }
            _ => return Err(format!("opcode 0x{opcode:02x} is not one that torch.save writes for weights")),
        })
    }

    fn memo(&mut self, opcode: u8) -> Result<(), String> {
        let index = match opcode {
            b'q' | b'h' => self.input.byte()?.into(),
            b'r' | b'j' => self.input.u32()?,
            _ => self.memo.len(),
        };
        if matches!(opcode, b'h' | b'j') {
            let id = *self.memo.get(&index).ok_or_else(|| format!("memo {index} is empty"))?;
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(index, top);
        }
        Ok(())
    }

    fn container(&mut self, opcode: u8) -> Result<(), String> {
        let node = match opcode {
            b')' | b']' => Node::Sequence(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            0x8f => Node::Other,
            b't' | b'l' => Node::Sequence(self.pop_to_mark()?),
            b'd' => Node::Dict(pairs(&self.pop_to_mark()?)?),
            // 0x85, 0x86, 0x87: tuples of one, two and three.
            _ => {
                let start = self.stack.len().checked_sub(usize::from(opcode - 0x84));
                Node::Sequence(self.split_off(start)?)
            }
        };
        self.push(node);
        Ok(())
    }

    /// Appends to the list, or sets items of the dictionary, below.
    fn fill(&mut self, opcode: u8) -> Result<(), String> {
        let values = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let start = self.stack.len().checked_sub(2);
                self.split_off(start)?
            }
            _ => self.pop_to_mark()?,
        };
        let target = self.top()?;
        match (&mut self.nodes[target], opcode) {
            (Node::Sequence(items), b'a' | b'e') => items.extend(values),
            (Node::Dict(items), b's' | b'u') => items.extend(pairs(&values)?),
            // Contents of an instance of an unknown class.
            (Node::Other, _) => {}
            _ => return Err("values are added to what is no container".to_owned()),
        }
        Ok(())
    }

    fn object(&mut self, opcode: u8) -> Result<(), String> {
        let node = match opcode {
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.class(&module, &name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.nodes[module], &self.nodes[name]) {
                    (Node::Text(module), Node::Text(name)) => {
                        let (module, name) = (module.clone(), name.clone());
                        self.class(&module, &name)
                    }
                    _ => return Err("a class without a name".to_owned()),
                }
            }
            b'Q' => {
                let id = self.pop()?;
                Node::Storage(self.storage(id)?)
            }
            // State of an object (OrderedDict's `_metadata`): no weights in there.
            b'b' => {
                self.pop()?;
                return self.top().map(|_| ());
            }
            _ => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.call(class, arguments)?
            }
        };
        self.push(node);
        Ok(())
    }

    fn class(&mut self, module: &str, name: &str) -> Node {
        let name = format!("{module}.{name}");
        self.classes.insert(name.clone());
        Node::Class(name)
    }

    /// Stands in for a call: knows a dictionary and tensors, anything else is opaque.
    fn call(&self, class: Id, arguments: Id) -> Result<Node, String> {
        let (Node::Class(class), Node::Sequence(arguments)) = (&self.nodes[class], &self.nodes[arguments])
        else {
            return Ok(Node::Other);
        };
        match class.as_str() {
            "collections.OrderedDict" if arguments.is_empty() => Ok(Node::Dict(Vec::new())),
            "torch._utils._rebuild_tensor_v2" => self.tensor(arguments).map(Node::Tensor),
            "torch._utils._rebuild_parameter" => match arguments.first().map(|&id| &self.nodes[id]) {
                Some(Node::Tensor(tensor)) => Ok(Node::Tensor(tensor.clone())),
                _ => Err("a parameter without a tensor".to_owned()),
            },
            _ => Ok(Node::Other),
        }
    }

    fn tensor(&self, arguments: &[Id]) -> Result<TensorRef, String> {
        let &[storage, offset, shape, stride, ..] = arguments else {
            return Err("a tensor without its four arguments".to_owned());
        };
        let Node::Storage(storage) = &self.nodes[storage] else {
            return Err("a tensor without a storage".to_owned());
        };
        let (shape, stride) = (self.sizes(shape)?, self.sizes(stride)?);
        if shape.len() != stride.len() {
            return Err("a tensor with more or fewer strides than axes".to_owned());
        }
        Ok(TensorRef { storage: storage.clone(), offset: self.size(offset)?, shape, stride })
    }

    fn storage(&self, id: Id) -> Result<StorageRef, String> {
        let wrong = || "a persistent id that is no storage".to_owned();
        let Node::Sequence(parts) = &self.nodes[id] else { return Err(wrong()) };
        let &[kind, class, key, _location, len] = parts.as_slice() else { return Err(wrong()) };
        match (&self.nodes[kind], &self.nodes[class], &self.nodes[key]) {
            (Node::Text(kind), Node::Class(class), Node::Text(key)) if kind == "storage" => {
                Ok(StorageRef { class: class.clone(), key: key.clone(), len: self.size(len)? })
            }
            _ => Err(wrong()),
        }
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>, String> {
        // torch itself stops at 64 axes; this also bounds the work per tensor.
        match &self.nodes[id] {
            Node::Sequence(items) if items.len() <= 64 => items.iter().map(|&item| self.size(item)).collect(),
            _ => Err("a shape that is no short tuple".to_owned()),
        }
    }

    fn size(&self, id: Id) -> Result<usize, String> {
        match self.nodes[id] {
            Node::Int(value) => usize::try_from(value).map_err(|_| format!("a size of {value}")),
            _ => Err("a size that is no integer".to_owned()),
        }
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| "it takes from an empty stack".to_owned())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop();
        self.split_off(mark)
    }

    fn split_off(&mut self, start: Option<usize>) -> Result<Vec<Id>, String> {
        match start {
            Some(start) if start <= self.stack.len() => Ok(self.stack.split_off(start)),
            _ => Err("it takes more from the stack than there is".to_owned()),
        }
    }
}

fn pairs(values: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    match values.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err("a key without its value".to_owned()),
    }
}
