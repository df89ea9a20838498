"""FastAPI served by uvicorn. Its pydantic is of version 1, which is pure Python: the core of
version 2 is compiled. What is no coroutine here, a thread would run natively.
"""

import os
import sys

import uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


app = FastAPI()


@app.get("/items/{number}")
async def find(number: int, q: str = ""):
    if number == 9:
        raise HTTPException(404, "there is no such item")
    return {"number": number, "q": q}


@app.post("/items")
async def add(item: Item):
    return {"name": item.name.upper(), "price": item.price * 2, "tags": len(item.tags)}


def twice(number: int):
    return number * 2


@app.get("/twice/{number}")
def doubled(background: BackgroundTasks, found: int = Depends(twice)):
    background.add_task(print, "after", found)
    return {"twice": found}


@app.get("/lines")
def lines():
    return StreamingResponse(f"line {number}\n" for number in range(100))


app.mount("/files", StaticFiles(directory=os.path.dirname(os.path.abspath(__file__))))

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
